"""How does the command tell a run, and which exit code is that?"""

from __future__ import annotations

from typing import Any

from migration_route.ledger.records import RunRecord
from migration_route.management.terminal import Terminal
from migration_route.rendering import text
from migration_route.rendering.exits import exit_of_run
from migration_route.reporting import serialize


def tell_run(terminal: Terminal, options: dict[str, Any], run: RunRecord) -> int:
    """Tell a run as it is; return the exit code of its end."""
    answer = serialize.run_answer(run)
    terminal.tell(options, answer, text.run_lines(answer))
    return exit_of_run(answer)
