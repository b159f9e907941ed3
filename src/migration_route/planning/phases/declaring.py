"""Which phase does a migration declare, in whichever package's words?

By duck typing, without an import: our own attribute `phase`, django-safemigrate's `safe`,
django-syzygy's `stage`, and the suffix `_contract` of phased migrations.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation

from migration_route.vocabulary import Phase

_WORDS = {
    "before_deploy": Phase.BEFORE_DEPLOY,
    "pre_deploy": Phase.BEFORE_DEPLOY,
    "pre_deployment": Phase.BEFORE_DEPLOY,
    "after_deploy": Phase.AFTER_DEPLOY,
    "post_deploy": Phase.AFTER_DEPLOY,
    "post_deployment": Phase.AFTER_DEPLOY,
    "always": Phase.ANY,
    "any": Phase.ANY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What a migration says of itself."""

    phase: Phase | None  # None: it says something that means nothing here
    source: str
    delay: int = 0  # seconds
    text: str = ""


def declared(migration: Migration) -> Declaration | None:
    """Return what a migration as a whole declares, if anything.

    Our own attribute goes before those of other packages, and all before the name.
    """
    own = getattr(migration, "phase", None)
    if own is not None:
        return Declaration(phase=_read(own), source="phase", text=repr(own)[:60])
    for attribute in ("safe", "stage"):
        value = getattr(migration, attribute, None)
        phase = None if value is None else _read(value)
        if phase is not None:
            return Declaration(phase=phase, source=attribute, delay=_delay(value))
    if migration.name.endswith("_contract"):
        return Declaration(phase=Phase.AFTER_DEPLOY, source="_contract")
    return None


def declared_by_operation(operation: Operation) -> Phase | None:
    """Return the `stage` of one operation, if it has one."""
    value = getattr(operation, "stage", None)
    return None if value is None else _read(value)


def _read(value: Any) -> Phase | None:
    """Read text, an enum, an object with one in `when`, or `Safe.after_deploy` uncalled."""
    value = getattr(value, "when", value)
    for word in (
        value,
        getattr(value, "value", None),
        getattr(value, "name", None),
        getattr(value, "__name__", None),
    ):
        if isinstance(word, str) and word.lower() in _WORDS:
            return _WORDS[word.lower()]
    return None


def _delay(value: Any) -> int:
    delay = getattr(value, "delay", None)
    return int(delay.total_seconds()) if isinstance(delay, timedelta) else 0
