"""The live line of a run on a terminal, with `rich`."""

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
    """A spinner, the number of steps done, the elapsed time and what is running."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def write(self, words: str) -> None:
        """Write above the line."""
        self._progress.console.print(words, markup=False, highlight=False, soft_wrap=True)

    def show(self, words: str, *, done: int) -> None:
        """Show what is running and how many steps are done."""
        text = escape(" ".join(words.split())[:120])
        self._progress.update(self._task, description=text, completed=done)


@contextmanager
def live_line(steps: int) -> Iterator[LiveLine]:
    """Show a line that disappears at the end of the block."""
    with Progress(
        SpinnerColumn(),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        transient=True,
    ) as progress:
        yield LiveLine(progress, progress.add_task("", total=max(steps, 1)))
