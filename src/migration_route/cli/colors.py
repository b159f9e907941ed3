"""Colors of the words that tell a state or a severity, on a terminal that has colors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TextIO

from migration_route.core.enums import RunState, Severity, StepState
from migration_route.core.risk import Risk

_RED, _YELLOW, _GREEN, _BLUE = 31, 33, 32, 36
_COLORS: Mapping[str, int] = {
    Severity.BLOCKING: _RED,
    Severity.WARNING: _YELLOW,
    Severity.INFO: _BLUE,
    Risk.DANGEROUS: _RED,
    Risk.CAUTION: _YELLOW,
    Risk.SAFE: _GREEN,
    RunState.SUCCEEDED: _GREEN,
    RunState.FAILED: _RED,
    RunState.PARTIAL: _RED,
    RunState.LOST: _RED,
    RunState.CANCELLED: _YELLOW,
    RunState.RUNNING: _BLUE,
    RunState.PAUSED: _YELLOW,
    RunState.WAITING: _YELLOW,
    StepState.APPLIED: _GREEN,
    StepState.REVERTED: _GREEN,
    StepState.APPLYING: _BLUE,
    "unreachable": _RED,
}
_WORDS = "|".join(sorted(_COLORS, key=len, reverse=True))
# The first word of a line, the word behind "risk:", and the state at the end of a headline.
_PLACES = re.compile(
    rf"^(?P<before>\s*(?:risk: (?:at least )?)?|(?:run|rehearsal) [^\n]*: )"
    rf"(?P<word>{_WORDS})(?P<after>[ :,(]|$)"
)


def colored(line: str) -> str:
    """Return a line of output with its first state or severity in color."""
    return _PLACES.sub(
        lambda found: (
            f"{found['before']}\x1b[{_COLORS[found['word']]}m{found['word']}\x1b[0m"
            f"{found['after']}"
        ),
        line,
    )


def has_colors(stream: TextIO) -> bool:
    """Return whether a stream is a terminal with colors, by its environment
    (no-color.org)."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_wanted and stream.isatty()
