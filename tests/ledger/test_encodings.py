"""Tests that a ledger in a database with a limited encoding keeps every text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, connections

from migration_route.conf import route_settings
from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import EventKind, RunState, StepState
from migration_route.ledger import bootstrap, runs
from migration_route.ledger.queries import find_run, list_entries, list_events
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.step_evidence import StepError
from migration_route.ledger.verification import verify
from migration_route.models import Event
from migration_route.vendors import encodings
from tests.factories import a_new_run, a_step_record, vendor

TRAIN = "größer 数据 🚂"

ENCODINGS: dict[str, dict[str, str | None]] = {
    "postgresql": {
        "LATIN1": "größer \\u6570\\u636e \\U0001f682",
        "WIN1252": "größer \\u6570\\u636e \\U0001f682",
        "EUC_JP": None,
        "SQL_ASCII": TRAIN,
        "UTF8": TRAIN,
    },
    "mysql": {
        "utf8mb3": "größer 数据 \\U0001f682",
        "latin1": "größer \\u6570\\u636e \\U0001f682",
        "utf8mb4": TRAIN,
    },
}


@pytest.fixture(params=sorted({*ENCODINGS["postgresql"], *ENCODINGS["mysql"]}))
def ledger(
    request: Any, database: None, monkeypatch: Any, settings: Any
) -> Iterator[tuple[str, str | None]]:
    """Return an alias whose database, which is the ledger's, has another encoding, and the
    stored form of `TRAIN`."""
    expected = ENCODINGS.get(vendor(), {})
    if request.param not in expected:
        pytest.skip(f"{request.param} is not an encoding of {vendor()}")
    usual = connections["default"]
    name = f"{usual.settings_dict['NAME']}_{request.param.lower()}"
    quoted = usual.ops.quote_name(name)
    how = f"CHARACTER SET {request.param}"
    if vendor() == "postgresql":
        how = f"ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    with usual.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS {quoted}")
        cursor.execute(f"CREATE DATABASE {quoted} {how}")
    given = {**connections.settings["default"], "NAME": name}
    monkeypatch.setitem(connections.settings, "encoded", given)
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LEDGER_DATABASE": "encoded"}
    route_settings.cache_clear()
    bootstrap.install()
    yield "encoded", expected[request.param]
    connections["encoded"].close()
    del connections["encoded"]
    with usual.cursor() as cursor:
        cursor.execute(f"DROP DATABASE {quoted}")


def test_every_text_is_kept_with_escapes_for_what_cannot_be_stored(ledger):
    """Output, a reason, a name and an error: the run continues, the chain is valid."""
    alias, expected = ledger
    steps = (a_step_record("0002_a"),)
    new = a_new_run(steps=steps, reason=TRAIN, actor_name=TRAIN, build=TRAIN)
    opened, _ = runs.create_run(new)
    run = runs.move(
        opened.id,
        to=RunState.RUNNING,
        expected={RunState.QUEUED},
        change=runs.Change(reason=TRAIN, actor_name=TRAIN),
    )
    with using_private_connection(alias):
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text=TRAIN, facts={"stream": TRAIN})
        journal.step(0, StepState.FAILED, error=StepError(type="Error", message=TRAIN))
        assert journal.flush()
    kept = find_run(opened.id)
    (event,) = list_events(opened.id, after=0, limit=5)
    texts = {kept.reason, kept.actor_name, kept.build, event.text}
    texts |= {entry.actor_name for entry in list_entries(before=None, limit=5)} - {""}
    assert len(texts) == 1
    assert expected is None or texts == {expected}
    assert kept.steps[0].error is not None
    assert kept.steps[0].error.message == event.facts["stream"] == TRAIN  # JSON is ASCII
    assert verify().intact


def test_what_the_database_refuses_for_good_is_not_tried_again_and_again(
    database, monkeypatch
):
    """A value that can never be written fails with its own error, without retries."""
    if vendor() == "sqlite":
        pytest.skip("SQLite refuses no value")
    opened, _ = runs.create_run(a_new_run())
    run = runs.move(opened.id, to=RunState.RUNNING, expected={RunState.QUEUED})
    with using_private_connection("default"):
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text="a", step=2**40)  # no column is so wide
        with pytest.raises(DataError):
            Event.objects.create(run="x", number=1, at="", kind="", step=2**40, facts="{}")
        assert not journal.flush()
        assert journal.is_refused


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("LATIN1", "iso8859-1"),
        ("LATIN9", "iso8859-15"),
        ("WIN1251", "cp1251"),
        ("ISO_8859_5", "iso8859-5"),
        ("EUC_JP", "euc_jp"),
        ("KOI8R", "koi8-r"),
        ("MULE_INTERNAL", "ascii"),
    ],
)
def test_the_encodings_of_postgresql_are_known_to_python(name, codec):
    """An unknown one is treated as ASCII: everything else is escaped."""
    assert encodings._codec_of_postgresql(name) == codec
