"""How does the command follow a run to its end, and which exit code is that?"""

from __future__ import annotations

from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.ledger.records import RunRecord
from migration_route.management.terminal import Terminal
from migration_route.operations import runs
from migration_route.reporting import serialize, text
from migration_route.vocabulary import RunState, WaitingReason

_LOOK = 0.3  # seconds between two looks at what has happened
EXIT_CODES = {
    RunState.SUCCEEDED: 0,
    RunState.NOOP: 0,
    RunState.STALE: 5,
    RunState.PARTIAL: 7,
    RunState.LOST: 7,
}


def exit_code_of(run: RunRecord) -> int:
    """Return the exit code of a run that has ended."""
    return EXIT_CODES.get(run.state, 1)


def follow(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Print what happens until the run has ended; return the exit code of its end."""
    actor, after, ended, told = on_this_host(), 0, False, ""
    while not ended:
        found = runs.happenings(run.id, actor, after=after)
        after, ended = found.last, found.ended
        if not options["json"]:
            for line in filter(None, map(text.event_line, found.events)):
                terminal.write(line)
            told = _tell_waiting(terminal, runs.show(run.id, actor), told)
        if not found.events:
            runs.wait(run.id, actor, seconds=_LOOK)
    run = runs.show(run.id, actor)
    terminal.tell(options, serialize.run_answer(run), text.run_lines(run))
    return exit_code_of(run)


def _tell_waiting(terminal: Terminal, run: RunRecord, told: str) -> str:
    """Say once why a run does not begin yet; return what was said."""
    why = run.waiting_facts.get("why", "")
    words = f"{run.waiting_reason}: {why}" if run.waits_to_begin else ""
    if run.waiting_reason == WaitingReason.CARRIER:
        words = "carrier: no worker has taken it yet."
    if words and words != told:
        terminal.write(f"  waits for {words}")
    return words
