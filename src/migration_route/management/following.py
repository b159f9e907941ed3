"""How does the command follow a run to its end, and which exit code is that?"""

from __future__ import annotations

from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.ledger.records import RunRecord
from migration_route.management.terminal import Terminal
from migration_route.operations import runs
from migration_route.reporting import serialize, text
from migration_route.vocabulary import RunState

_LOOK = 0.3  # seconds between two looks at what has happened
EXIT_CODES = {
    RunState.SUCCEEDED: 0,
    RunState.NOOP: 0,
    RunState.STALE: 5,
    RunState.EXPIRED: 5,
    RunState.REJECTED: 4,
    RunState.AWAITING_APPROVAL: 6,
    RunState.PARTIAL: 7,
    RunState.LOST: 7,
}


def exit_code_of(run: RunRecord) -> int:
    """Return the exit code of a run that has ended."""
    return EXIT_CODES.get(run.state, 1)


def follow(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Print what happens until the run has ended; return the exit code of its end."""
    actor, after, ended = on_this_host(), 0, False
    while not ended:
        found = runs.happenings(run.id, actor, after=after)
        after, ended = found.last, found.ended
        if not options["json"]:
            for line in filter(None, map(text.event_line, found.events)):
                terminal.write(line)
        if not found.events:
            runs.wait(run.id, actor, seconds=_LOOK)
    run = runs.show(run.id, actor)
    terminal.tell(options, serialize.run_answer(run), text.run_lines(run))
    return exit_code_of(run)
