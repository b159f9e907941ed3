"""Tests that every entry is added to one chain, despite concurrent writers."""

from __future__ import annotations

import json
import logging

import pytest
from django.db import IntegrityError, OperationalError, connections

from migration_route.core.enums import Action, RunState
from migration_route.ledger import entries, hashchain, runs, spool
from migration_route.ledger.entries import Draft, write, write_if_possible
from migration_route.ledger.queries import list_entries
from migration_route.ledger.verification import verify
from migration_route.models import Entry
from tests.factories import a_new_run, at_once, vendor, written_by_another

pytestmark = pytest.mark.usefixtures("database")

only_sqlite = pytest.mark.usefixtures("_only_sqlite")


@pytest.fixture
def _only_sqlite():
    if vendor() != "sqlite":
        pytest.skip("only SQLite has one writer")


def denied(**changes: object) -> Draft:
    """Return an entry that records a denial."""
    facts = {"verb": "apply", "code": "forbidden"}
    return Draft(action=Action.DENIED, facts=facts, **changes)  # type: ignore[arg-type]


def test_the_first_line_follows_the_genesis():
    """The chain starts with sixty-four zeros."""
    write(denied(actor_name="eve"), patience=1)
    (entry,) = list_entries(before=None, limit=10)
    assert (entry.sequence, entry.previous) == (1, hashchain.GENESIS)
    assert (entry.action, entry.actor_name, entry.facts["verb"]) == (
        Action.DENIED,
        "eve",
        "apply",
    )


def test_lines_that_are_written_together_stand_together():
    """Each follows the one before, in the given order."""
    write(denied(actor_name="a"), denied(actor_name="b"), patience=1)
    write(denied(actor_name="c"), patience=1)
    found = list_entries(before=None, limit=10)[::-1]
    assert [entry.actor_name for entry in found] == ["a", "b", "c"]
    assert [entry.previous for entry in found[1:]] == [entry.digest for entry in found[:2]]
    assert verify().entries == 3


def test_a_page_ends_where_the_next_one_begins():
    """Newest first, and the cursor is the last number of a page."""
    write(*(denied(actor_name=str(n)) for n in range(5)), patience=1)
    first = list_entries(before=None, limit=2)
    second = list_entries(before=first[-1].sequence, limit=2)
    assert [entry.sequence for entry in (*first, *second)] == [5, 4, 3, 2]


def test_words_in_every_script_come_back_as_they_were():
    """A name may have any characters, and the chain covers them."""
    write(denied(actor_name="Łukasz 数据 🚂"), patience=1)
    assert list_entries(before=None, limit=1)[0].actor_name == "Łukasz 数据 🚂"
    assert verify().intact


def test_writers_at_the_same_time_make_one_chain_without_gaps():
    """Six threads with four entries each: twenty-four entries, numbered without a gap."""

    def append(writer: int) -> None:
        for number in range(4):
            write(denied(actor_name=f"{writer}-{number}"), patience=20)

    assert at_once(6, append) == [None] * 6
    found = list_entries(before=None, limit=100)[::-1]
    assert [entry.sequence for entry in found] == list(range(1, 25))
    assert {entry.actor_name for entry in found} == {
        f"{writer}-{number}" for writer in range(6) for number in range(4)
    }
    for writer in range(6):
        own = [e.actor_name for e in found if e.actor_name.startswith(f"{writer}-")]
        assert own == [f"{writer}-{number}" for number in range(4)]
    assert verify().intact


def test_a_line_that_is_there_already_is_not_written_twice():
    """A draft has one position: a second write of it fails instead of doubling."""
    draft = denied()
    write(draft, patience=1)
    with pytest.raises(IntegrityError):
        write(draft, patience=1)
    assert len(list_entries(before=None, limit=10)) == 1


def test_a_note_goes_to_the_log_as_well(caplog):
    """A log collector receives every denial, as JSON."""
    with caplog.at_level(logging.INFO, "migration_route.ledger"):
        write_if_possible(denied(actor_name="eve"))
    (record,) = caplog.records
    action, _, words = record.getMessage().partition(" ")
    assert action == "denied"
    assert json.loads(words)["actor_name"] == "eve"


def test_a_note_makes_no_ledger(empty_database):
    """A request without any right must not create tables in a database."""
    write_if_possible(denied())
    assert connections[empty_database].introspection.table_names() == []


@only_sqlite
def test_a_note_on_a_locked_file_waits_beside_it():
    """While a migration locks the file, the complete entry is stored in the folder."""
    folder = spool.spool_dir("default")
    assert folder is not None
    with written_by_another():
        write_if_possible(denied(actor_name="eve"))
        ((path, entry),) = spool.spooled_entries(folder)
    assert path.parent == folder
    assert entry["actor_name"] == "eve"
    assert not Entry.objects.exists()
    write(patience=1)


@only_sqlite
@pytest.mark.parametrize("writer", ["write", "open_run", "move"])
def test_the_next_writer_takes_in_what_was_left(writer):
    """The next writer, whichever it is, adds the entry to the chain, once, and removes the
    folder."""
    folder = spool.spool_dir("default")
    assert folder is not None
    run = runs.create_run(a_new_run())[0].id if writer == "move" else ""
    with written_by_another():
        write_if_possible(denied(actor_name="eve"))
    try:
        if writer == "write":
            write(denied(actor_name="mallory"), patience=1)
        elif writer == "open_run":
            runs.create_run(a_new_run())
        else:
            runs.move(run, to=RunState.CANCELLED, expected={RunState.QUEUED})
        names = [entry.actor_name for entry in list_entries(before=None, limit=10)]
        assert names.count("eve") == 1
        assert not folder.exists()
        assert verify().intact
    finally:
        write(patience=1)  # the file must not stay for the next test


@only_sqlite
def test_what_was_left_is_not_taken_in_twice():
    """A writer that ended between the commit and the cleanup leaves the file behind."""
    folder = spool.spool_dir("default")
    assert folder is not None
    with written_by_another():
        write_if_possible(denied(actor_name="eve"))
    ((path, _),) = spool.spooled_entries(folder)
    text = path.read_text()
    write(patience=1)
    folder.mkdir()
    path.write_text(text)
    write(patience=1)
    assert len(list_entries(before=None, limit=10)) == 1
    assert not folder.exists()


@only_sqlite
def test_many_notes_on_a_locked_file_are_all_kept():
    """Nothing is lost, and they are added in their order of arrival."""
    with written_by_another():
        assert (
            at_once(5, lambda n: write_if_possible(denied(actor_name=f"eve {n}")))
            == [None] * 5
        )
        write_if_possible(denied(actor_name="last"))
    at_once(3, lambda n: write(denied(actor_name="writer"), patience=10))
    names = [entry.actor_name for entry in list_entries(before=None, limit=20)][::-1]
    assert sorted(names) == [*(f"eve {n}" for n in range(5)), "last", *["writer"] * 3]
    assert names.index("last") == 5
    assert verify().intact


@only_sqlite
def test_a_note_never_fails(tmp_path):
    """With an unavailable database and an unavailable folder there is only a log line."""
    nowhere = connections["default"].copy()
    nowhere.settings_dict = {**nowhere.settings_dict, "NAME": str(tmp_path / "no" / "x.db")}
    usual = connections["default"]
    connections["default"] = nowhere
    try:
        write_if_possible(denied())
    finally:
        connections["default"] = usual
        nowhere.close()


def test_a_note_on_a_server_that_is_gone_is_logged(caplog):
    """An interface must respond with 403 even where the ledger cannot be written."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has no server")
    gone = connections["default"].copy()
    gone.settings_dict = {**gone.settings_dict, "PORT": "1"}
    usual = connections["default"]
    connections["default"] = gone
    try:
        write_if_possible(denied())
    finally:
        connections["default"] = usual
    assert "Writing to the ledger failed" in caplog.text


def test_another_error_than_a_lost_race_is_raised():
    """Only a position that another writer has used is retried."""
    attempts = []

    def fail() -> None:
        attempts.append(1)
        raise OperationalError(2006, "gone")

    with pytest.raises(OperationalError):
        entries.retry_on_conflict(fail)
    assert len(attempts) == 1


def test_the_second_of_two_simultaneous_inserts_is_tried_again():
    """InnoDB refuses it with a deadlock, 1213."""
    attempts = []

    def once() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise OperationalError(1213, "Deadlock found")
        return "written"

    assert entries.retry_on_conflict(once) == "written"
