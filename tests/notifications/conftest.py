"""What do the tests of telling share? Somebody who listens, and the setting for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migration_route import signals
from tests.harness.receiver import Receiver

SECRET = "planted-secret-of-the-webhook"


@pytest.fixture
def receiver():
    """Somebody who listens."""
    with Receiver() as found:
        yield found


@pytest.fixture
def tell(settings: Any) -> Callable[..., None]:
    """Let these webhooks be told: a dict for each, over what all of them say."""

    def told(*webhooks: dict[str, Any], **more: Any) -> None:
        usual = {"insecure": True, "secret": SECRET, "events": "*", "timeout": "2s"}
        settings.MIGRATION_ROUTE = {
            **settings.MIGRATION_ROUTE,
            "LAUNCHER": "inline",  # no process of its own tells anything here
            "WEBHOOKS": [{**usual, **webhook} for webhook in webhooks],
            **more,
        }

    return told


@pytest.fixture(autouse=True)
def _settled():
    """Let no signal of one test arrive in another."""
    yield
    assert signals.settle(10)
