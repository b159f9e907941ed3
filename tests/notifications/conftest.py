"""Fixtures of the tests of notifications: a receiver, and the setting for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migration_route import signals
from tests.harness.receiver import Receiver

SECRET = "planted-secret-of-the-webhook"


@pytest.fixture
def receiver():
    with Receiver() as found:
        yield found


@pytest.fixture
def tell(settings: Any) -> Callable[..., None]:
    """Return a function that configures webhooks: a dict for each, over common defaults."""

    def told(*webhooks: dict[str, Any], **more: Any) -> None:
        usual = {"insecure": True, "secret": SECRET, "events": "*", "timeout": "2s"}
        settings.MIGRATION_ROUTE = {
            **settings.MIGRATION_ROUTE,
            "LAUNCHER": "inline",  # no other process sends anything here
            "WEBHOOKS": [{**usual, **webhook} for webhook in webhooks],
            **more,
        }

    return told


@pytest.fixture(autouse=True)
def _settled():
    """Deliver the signals of a test before it ends."""
    yield
    assert signals.settle(10)
