"""Has a run that has not begun a process that will begin it?

One whose process is gone has done nothing, and is not lost: another process takes it up.
"""

from __future__ import annotations

import logging
import socket
from datetime import timedelta

from migration_route import clock, processes
from migration_route.conf import route_settings
from migration_route.ledger import carriers, runs
from migration_route.ledger.reading import find_run, silence
from migration_route.ledger.records import RunRecord, StepError
from migration_route.running.launchers import is_patient, starts_again
from migration_route.running.launchers.words import with_last_words
from migration_route.vocabulary import RunState, WaitingReason

logger = logging.getLogger("migration_route.running")

START = timedelta(seconds=30)  # for a process to be up, under load
_TRIES = 5  # to start a process for a run whose opening has come
_LATE = timedelta(seconds=2)  # for a carrier to notice that an opening has come


def look_after_carrier(run: RunRecord) -> RunRecord:
    """Return a run that has not begun as it is, with a new process on its way where its
    own is gone. Raises `NotInThisState` when somebody else has just seen to it."""
    if not _is_carried(run):
        run = _take_up(run)
    return shown(run)


def shown(run: RunRecord) -> RunRecord:
    """Return it as its readers should see it: one that nobody has taken says so."""
    if run.carrier or not is_patient():
        return run
    if run.state is RunState.QUEUED or (run.waits_to_begin and _is_late(run)):
        return carriers.as_waiting_for_carrier(run, WaitingReason.CARRIER)
    return run


def _is_late(run: RunRecord) -> bool:
    return run.in_spite or clock.age(run.waiting_until) > _LATE


def _is_carried(run: RunRecord) -> bool:
    if not run.carrier:
        return silence(run) <= START  # it has just been asked for, or been let go
    if run.supervisor_pid is None:
        return silence(run) <= START  # taken for a process that is on its way
    if run.host == socket.gethostname():
        return processes.is_at_work(run.supervisor_pid, run.id)
    return silence(run) <= route_settings().lease


def _take_up(run: RunRecord) -> RunRecord:
    """Let another process take a run up whose own is gone."""
    tries = run.waiting_facts.get("tries", 0) + 1
    if run.waits_to_begin and _is_late(run) and tries > _TRIES:
        return _fail(run)
    if not run.carrier and is_patient():
        return run  # somebody will come for it
    if not carriers.take_away(run, tries=tries):
        return find_run(run.id)
    run = find_run(run.id)
    try:
        if again := starts_again():
            again(run)
    except Exception:  # a launcher of the project raises what it likes
        logger.exception("No new process for run %s could be started.", run.id)
    return run


def _fail(run: RunRecord) -> RunRecord:
    message = f"No process could begin this run, {_TRIES} times."
    error = StepError(type="LaunchFailed", message=with_last_words(message, run.id))
    change = runs.Change(
        outcome="launch_failed",
        error=error,
        only_if={"carrier": run.carrier, "heartbeat_at": run.heartbeat_at},
    )
    return runs.move(run.id, to=RunState.FAILED, expected={RunState.WAITING}, change=change)
