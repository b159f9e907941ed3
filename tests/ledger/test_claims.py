"""Tests of the claim of a run that has not started: one process has it, whatever is
delivered twice."""

from __future__ import annotations

import pytest

from migration_route.core import clock
from migration_route.core.enums import RunState, WaitingReason
from migration_route.core.errors import InvalidState, UnknownRun
from migration_route.ledger import claims, runs
from migration_route.ledger.queries import find_run, list_entries
from migration_route.ledger.runs import WaitInfo
from migration_route.ledger.verification import verify
from tests.factories import a_new_run, at_once

pytestmark = pytest.mark.usefixtures("database")

TOMORROW = "2999-12-01T01:00:00.000000Z"
NIGHT = WaitInfo(reason=WaitingReason.WINDOW, until=TOMORROW, facts={"why": "Night."})


def a_waiting_run(**changes):
    """Return a run that waits for its window."""
    return runs.create_run(a_new_run(waiting=NIGHT, **changes))[0]


def take(run, word="one"):
    """Claim it as a process of some host."""
    return claims.claim(run, word, host="here", pid=7)


def test_a_run_that_waits_is_born_so_and_on_the_ledger():
    """The entry says until when; it is unclaimed, and owns its database."""
    run = a_waiting_run(not_before=TOMORROW)
    assert run.waits_to_begin
    assert (run.waiting_reason, run.waiting_until) == ("window", TOMORROW)
    assert (run.claimed_by, run.supervisor_pid, run.not_before) == ("", None, TOMORROW)
    (entry,) = list_entries(before=None, limit=1)
    assert (entry.facts["waiting"], entry.facts["until"]) == ("window", TOMORROW)
    assert entry.facts["at"] == TOMORROW


@pytest.mark.parametrize("new", [a_new_run(), a_new_run(waiting=NIGHT)])
def test_of_many_that_come_for_a_run_one_gets_it(new):
    """A message that is delivered eight times is one claim."""
    run, _ = runs.create_run(new)
    found = at_once(8, lambda number: take(run.id, f"word {number}"))
    [taken] = [one for one in found if not isinstance(one, Exception)]
    assert {type(one) for one in found if one is not taken} == {InvalidState}
    assert find_run(run.id).claimed_by == taken.claimed_by
    assert take(run.id, taken.claimed_by).claimed_by == taken.claimed_by  # its own claim


def test_only_what_has_not_begun_can_be_taken():
    """Neither a running one, one that waits for locks, nor an ended one."""
    run = a_waiting_run()
    for state, reason in [(RunState.RUNNING, ""), (RunState.WAITING, "lock")]:
        change = runs.Change(waiting_reason=reason)
        runs.move(run.id, to=state, expected=set(RunState), change=change)
        with pytest.raises(InvalidState):
            take(run.id)
    runs.move(run.id, to=RunState.CANCELLED, expected={RunState.WAITING})
    with pytest.raises(InvalidState, match="cancelled"):
        take(run.id)
    with pytest.raises(UnknownRun):
        take("0" * 32)


def test_a_heart_beats_for_its_own_run_alone():
    """A process that has lost its run is told so by its next heartbeat."""
    run = take(a_waiting_run().id)
    assert claims.heartbeat(run.id, "one") is not None
    assert claims.heartbeat(run.id, "another") is None
    runs.move(run.id, to=RunState.CANCELLED, expected={RunState.WAITING})
    assert claims.heartbeat(run.id, "one") is None


def test_waiting_is_an_entry_once():
    """Not with every check, but when the opening has moved."""
    run = take(runs.create_run(a_new_run())[0].id)
    run = runs.set_scheduled(run, NIGHT)
    count = len(list_entries(before=None, limit=50))
    assert runs.set_scheduled(run, NIGHT) == run
    assert len(list_entries(before=None, limit=50)) == count
    moved = WaitInfo(reason=WaitingReason.FREEZE, until=TOMORROW, facts={"why": "Sale."})
    assert runs.set_scheduled(run, moved).waiting_reason == "freeze"
    assert len(list_entries(before=None, limit=50)) == count + 1
    assert verify().intact


def test_a_run_that_is_handed_back_is_anybodys_at_once():
    """But not for a process that has lost it before."""
    run = take(a_waiting_run().id)
    claims.release_claim(run.id, "another")
    assert find_run(run.id).claimed_by == "one"
    claims.release_claim(run.id, "one")
    found = find_run(run.id)
    assert (found.claimed_by, found.supervisor_pid) == ("", None)
    assert clock.age(found.heartbeat_at).days > 365
    assert take(run.id, "two").claimed_by == "two"


def test_of_many_that_see_a_dead_process_one_takes_its_run_away():
    """So one new process is started; a new heartbeat keeps the claim."""
    run = take(a_waiting_run().id)
    found = at_once(8, lambda _: runs.revoke_claim(run, tries=1))
    assert sorted(found) == [False] * 7 + [True]
    left = find_run(run.id)
    assert (left.claimed_by, left.waiting_facts["tries"]) == ("", 1)
    assert left.waits_to_begin
    again = take(run.id, "two")
    assert claims.heartbeat(run.id, "two") is not None
    assert not runs.revoke_claim(again, tries=2)
    assert verify().intact
