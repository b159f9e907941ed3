"""How is a run at work shown on a terminal? By `rich`, where it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)


class LiveLine:
    """A spinner, how many steps are done, for how long, and what is under way."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def write(self, words: str) -> None:
        """Write above the line."""
        self._progress.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def show(self, words: str, *, done: int) -> None:
        """Say what is under way, and how many steps are done."""
        text = escape(" ".join(words.split())[:120])
        self._progress.update(self._task, description=text, completed=done)


@contextmanager
def live_line(steps: int) -> Iterator[LiveLine]:
    """Give a line that goes away at the end of the block."""
    with Progress(
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        transient=True,
    ) as progress:
        yield LiveLine(progress, progress.add_task("", total=max(steps, 1)))
