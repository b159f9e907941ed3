"""Stores control requests for a running run: cancel, force, pause.

A control request is a column of the run's row. While a migration uses the SQLite file
that contains the row, the request is a file in the spool. The supervisor polls both.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.conf.databases import PATIENCE
from migration_route.core.enums import ControlRequest, RunState
from migration_route.core.errors import InvalidState
from migration_route.ledger import spool
from migration_route.ledger.entries import Draft, absorb_spool, append, write_transaction
from migration_route.ledger.records import RunRecord, run_record
from migration_route.ledger.runs import Change, locked_row, state_entry
from migration_route.models import Run


def requested_controls(run: str) -> frozenset[str]:
    """Return the pending control requests of a run.

    A cancelling run has "cancel", whichever way it was requested. A table that cannot be
    read adds nothing.
    """
    file = _file(run)
    requests = set(file.control_requests if file else ())
    alias = route_settings().ledger_database
    try:
        rows = Run.objects.using(alias).filter(pk=run)
        for state, control_request in rows.values_list("state", "control_request"):
            if control_request:
                requests.add(control_request)
            if state == RunState.CANCELLING:
                requests.add(ControlRequest.CANCEL.value)
    except DatabaseFailure:
        pass  # the next poll reads it again
    return frozenset(requests)


def request_control(
    run: str, word: ControlRequest | None, *, expected: Collection[RunState], change: Change
) -> RunRecord:
    """Store a control request for a run in an expected state; None removes the request.

    Raises `InvalidState`, with the current state, and `UnknownRun`.
    """

    def request_once(alias: str) -> RunRecord:
        rows = Run.objects.using(alias).filter(pk=run)
        before = locked_row(alias, run)
        matching = rows.filter(state=before.state, **change.only_if)
        if before.state not in expected or not matching.update(control_request=word or ""):
            raise InvalidState(
                f"Run {run} is {before.state}; this action is not possible now.",
                run=run,
                state=before.state,
            )
        append(_control_entry(before, word, change))
        return run_record(rows.get())

    absorb_spool(patience=PATIENCE)
    return write_transaction(request_once)


def request_control_in_spool(run: str, word: ControlRequest, change: Change) -> bool:
    """Store a control request in the spool while a migration uses the SQLite file.

    Returns False when the tables can be written.
    """
    file = _file(run)
    if file is None or not spool.migration_active(spool.spool_dir(_alias())):
        return False
    file.ask(word)
    _spool_entry(file, run, word, change)
    return True


def withdraw_control_in_spool(run: str, word: ControlRequest, change: Change) -> bool:
    """Remove a control request from the spool, with an entry; False if there is none."""
    file = _file(run)
    if file is None or not file.withdraw(word):
        return False
    _spool_entry(file, run, None, change)
    return True


def consume_control_in_spool(run: str, word: ControlRequest) -> bool:
    """Take a control request from the spool to execute it; False if there is none."""
    file = _file(run)
    return file is not None and file.withdraw(word)


def _spool_entry(
    file: spool.RunSpool, run: str, word: ControlRequest | None, change: Change
) -> None:
    before = Run.objects.using(_alias()).get(pk=run)
    spool.spool_entry(file.folder, _control_entry(before, word, change).to_dict())


def _control_entry(before: Run, word: ControlRequest | None, change: Change) -> Draft:
    """Return the entry of a control request; cancel and force also change the state."""
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
