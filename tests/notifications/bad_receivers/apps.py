"""Two receivers: one that raises, and one that never returns."""

from __future__ import annotations

import os
import threading
from typing import Any

from django.apps import AppConfig

from migration_route.signals import run_started, step_started


def raises(**_: Any) -> None:
    raise RuntimeError("a receiver is bad")


def hangs(**_: Any) -> None:
    threading.Event().wait()


class BadReceiversConfig(AppConfig):
    name = "tests.notifications.bad_receivers"

    def ready(self) -> None:
        """Connect the receivers in the processes that request it: the test itself loads
        this app."""
        if "BAD_RECEIVERS" not in os.environ:
            return
        run_started.connect(raises)
        step_started.connect(hangs)
