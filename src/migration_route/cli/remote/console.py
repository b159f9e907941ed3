"""Output of the remote client.

A pipe gets lines; a terminal with `rich` installed shows the same lines above a live one.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext

from migration_route.cli.terminal import LiveDisplay, Terminal

_CONTROL = {
    number: f"\\u{number:04x}"
    for number in (*range(0x20), *range(0x7F, 0xA0))
    if chr(number) not in "\n\t"
}


def console(*, is_json: bool = False) -> Terminal:
    """Return the terminal of this process."""
    return Terminal(
        command="migration-route",
        output=lambda words: print(words, flush=True),  # noqa: T201 - the output
        errors=lambda words: print(words, file=sys.stderr, flush=True),  # noqa: T201
        is_json=is_json,
        escape=escape_control_characters,
        live_line=_live_line,
    )


def escape_control_characters(words: str) -> str:
    """Return text that may come from a database or a migration, without control characters
    of a terminal. JSON stays JSON, with the same meaning."""
    return words.translate(_CONTROL)


def _live_line(steps: int) -> AbstractContextManager[LiveDisplay | None]:
    if not sys.stdout.isatty():
        return nullcontext()
    try:
        from migration_route.cli.remote.live import live_line
    except ImportError:  # the extra [cli] is not installed
        return nullcontext()
    return live_line(steps)
