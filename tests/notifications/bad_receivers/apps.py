"""Which receivers does this app have? One that raises, and one that never returns."""

from __future__ import annotations

import os
import threading
from typing import Any

from django.apps import AppConfig

from migration_route.signals import run_started, step_started


def raises(**_: Any) -> None:
    """Fail."""
    raise RuntimeError("a receiver is bad")


def hangs(**_: Any) -> None:
    """Never return."""
    threading.Event().wait()


class BadReceiversConfig(AppConfig):
    """The app."""

    name = "tests.notifications.bad_receivers"

    def ready(self) -> None:
        """Listen, in the processes that are told to: the test itself loads this app."""
        if "BAD_RECEIVERS" not in os.environ:
            return
        run_started.connect(raises)
        step_started.connect(hangs)
