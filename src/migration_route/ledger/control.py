"""What does somebody want of a run that is at work?

A wish stands in the row of the run. While the run is at work in the very SQLite file
that has the row, it stands in a file beside it. The supervisor looks at both.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.conf.databases import PATIENCE, ledger_connection, ledger_transaction
from migration_route.core.enums import ControlRequest, RunState
from migration_route.core.errors import InvalidState
from migration_route.ledger import spool
from migration_route.ledger.entries import Draft, absorb_spool, append, retrying
from migration_route.ledger.records import RunRecord, run_record
from migration_route.ledger.runs import Change, locked_row, state_entry
from migration_route.models import Run


def requested_controls(run: str) -> frozenset[str]:
    """Return what is asked of a run now; a table that cannot be read says nothing.

    A run that is to stop says "cancel", whichever way it was told.
    """
    file = _file(run)
    words = set(file.asked if file else ())
    alias = route_settings().ledger_database
    try:
        rows = Run.objects.using(alias).filter(pk=run)
        for state, asked in rows.values_list("state", "asked"):
            words |= {asked} if asked else set()
            words |= (
                {ControlRequest.CANCEL.value} if state == RunState.CANCELLING else set()
            )
    except DatabaseFailure:
        pass  # looked at again soon
    return frozenset(words)


def request_control(
    run: str, word: ControlRequest | None, *, expected: Collection[RunState], change: Change
) -> RunRecord:
    """Ask something of a run in one of these states, or, with None, nothing any more.

    Raises `NotInThisState`, with the state that it is in, and `UnknownRun`.
    """
    alias = route_settings().ledger_database
    absorb_spool(patience=PATIENCE)
    with ledger_connection(alias):
        return retrying(  # type: ignore[no-any-return]
            lambda: _ask_once(alias, run, word, expected, change)
        )


def _ask_once(
    alias: str,
    run: str,
    word: ControlRequest | None,
    expected: Collection[RunState],
    change: Change,
) -> RunRecord:
    with ledger_transaction(alias):
        rows = Run.objects.using(alias).filter(pk=run)
        before = locked_row(alias, run)
        fitting = rows.filter(state=before.state, **change.only_if)
        if before.state not in expected or not fitting.update(asked=word or ""):
            raise InvalidState(
                f"Run {run} is {before.state}; this cannot be done now.",
                run=run,
                state=before.state,
            )
        append(_wish_entry(before, word, change))
        return run_record(rows.get())


def request_control_in_spool(run: str, word: ControlRequest, change: Change) -> bool:
    """Ask something of a run beside the tables, where it is at work in their SQLite file.

    Returns False where the tables can take the wish themselves.
    """
    file = _file(run)
    if file is None or not spool.migration_active(spool.spool_dir(_alias())):
        return False
    file.ask(word)
    _leave_entry(file, run, word, change)
    return True


def withdraw_control_in_spool(run: str, word: ControlRequest, change: Change) -> bool:
    """Take back what was asked beside the tables; False when nothing was."""
    file = _file(run)
    if file is None or not file.withdraw(word):
        return False
    _leave_entry(file, run, None, change)
    return True


def consume_control_in_spool(run: str, word: ControlRequest) -> bool:
    """Take a wish from beside the tables, to fulfil it; False when there is none."""
    file = _file(run)
    return file is not None and file.withdraw(word)


def _leave_entry(
    file: spool.RunSpool, run: str, word: ControlRequest | None, change: Change
) -> None:
    before = Run.objects.using(_alias()).get(pk=run)
    spool.spool_entry(file.folder, _wish_entry(before, word, change).words())


def _wish_entry(before: Run, word: ControlRequest | None, change: Change) -> Draft:
    """Return the line that tells of a wish: to stop is a change of state as well."""
    stops = (
        word in {ControlRequest.CANCEL, ControlRequest.FORCE}
        and before.state != RunState.LOST
    )
    to = RunState.CANCELLING if stops else RunState(before.state)
    return state_entry(before, to, change)


def _alias() -> str:
    return route_settings().ledger_database


def _file(run: str) -> spool.RunSpool | None:
    folder = spool.spool_dir(_alias())
    return spool.RunSpool(folder, run) if folder else None
