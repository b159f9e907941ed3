"""How does the command follow a run to its end?"""

from __future__ import annotations

from typing import Any

from migration_route.access.actor import on_this_host
from migration_route.ledger.records import RunRecord
from migration_route.management.ending import tell_run
from migration_route.management.terminal import Terminal
from migration_route.operations import runs
from migration_route.rendering import text
from migration_route.rendering.openings import waits_for
from migration_route.reporting import serialize

_LOOK = 0.3  # seconds between two looks at what has happened


def follow(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Print what happens until the run has ended; return the exit code of its end."""
    actor, after, ended, told = on_this_host(), 0, False, ""
    while not ended:
        found = runs.happenings(run.id, actor, after=after)
        after, ended = found.last, found.ended
        if not options["json"]:
            for event in map(serialize.event_answer, found.events):
                if line := text.event_line(event):
                    terminal.write(line)
            words = waits_for(serialize.run_answer(runs.show(run.id, actor)))
            if words not in {"", told}:
                terminal.write(words)
            told = words
        if not found.events:
            runs.wait(run.id, actor, seconds=_LOOK)
    return tell_run(terminal, options, runs.show(run.id, actor))
