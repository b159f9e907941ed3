"""Does this process listen to what happens, so that it is told?

Every process of a project imports this. What tells is imported where there is somebody to
be told, and something has happened or is about to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.signals import setting_changed

from migration_route import signals
from migration_route.conf.recipients import recipients, wanted_by
from migration_route.edges import Happening


def watch() -> None:
    """Look at every edge in this process, if there is somebody to be told."""
    setting_changed.connect(_settings_changed, dispatch_uid="migration_route.telling")
    _settings_changed(setting="MIGRATION_ROUTE")


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting != "MIGRATION_ROUTE":
        return
    is_anybody = bool(recipients())
    for edge, signal in signals.SIGNALS.items():
        uid = f"migration_route.telling {edge}"
        if is_anybody:
            signal.connect(_look, weak=False, dispatch_uid=uid)
        else:
            signal.disconnect(dispatch_uid=uid)


def _look(happening: Happening, **_: Any) -> None:
    from migration_route.operations import telling

    edges, database = (happening.edge,), happening.database
    if any(wanted_by(recipient, edges, database) for recipient in recipients()):
        telling.see_to(happening.edge)


@contextmanager
def telling_here() -> Iterator[None]:
    """Let this process, which carries out a run, tell what happens while the block lasts,
    and for a moment after it; what is left then is told by another."""
    if not recipients():
        yield
        return
    from migration_route.operations.telling import telling

    with telling():
        yield
