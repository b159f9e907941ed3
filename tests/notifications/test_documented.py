"""Tests that the reference names every notification."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from migration_route.api.metrics import metrics_of
from migration_route.conf.notifications import EMAIL_KEYS, WEBHOOK_KEYS
from migration_route.core.events import DEFAULT_EVENT_TYPES, EventType, RunEvent
from migration_route.ledger.verification import LedgerMeasure
from migration_route.presentation.schemas.runs import NotificationMessage
from migration_route.services.ledger import LedgerFigures, Measurement

DOCS = Path(__file__).parents[2] / "docs"
TELLING = (DOCS / "reference" / "notifications.md").read_text(encoding="utf-8")
SETTINGS = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")


def row(page: str, word: str) -> str:
    found = re.search(rf"^\| `{re.escape(word)}` \|(.*)\|$", page, re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("edge", EventType)
def test_every_event_is_there_with_the_process_that_sends_it(edge):
    assert row(TELLING, edge)
    assert ("Default." in row(TELLING, edge)) is (edge in DEFAULT_EVENT_TYPES)
    assert re.search(rf"^\|.*`{edge}`.*\| of ", TELLING, re.MULTILINE)


@pytest.mark.parametrize(
    "word", [*NotificationMessage.__struct_fields__, *(f.name for f in fields(RunEvent))]
)
def test_every_field_is_there(word):
    assert row(TELLING, word)


@pytest.mark.parametrize("key", [*WEBHOOK_KEYS, *EMAIL_KEYS])
def test_every_key_is_there(key):
    assert row(SETTINGS, key)


def test_every_metric_is_there():
    ledger = LedgerMeasure(entries=0, is_tail_intact=True)
    known = LedgerFigures(counts=(), last=(), active=(), ledger=ledger, backlogs=())
    names = [found.name for found in metrics_of(Measurement(databases=(), known=known))]
    assert len(names) == 17
    for name in names:
        assert row(TELLING, name.removeprefix("migration_route_")), name
