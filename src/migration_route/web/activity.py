"""What users did with a run, and why: from the entries of the ledger about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from migration_route.core.enums import Action, EventKind, RunState
from migration_route.ledger.records import EntryRecord, EventRecord, RunRecord

_DONE = {
    Action.RUN_REQUESTED: "requested the run",
    Action.APPROVED: "approved it",
    Action.REJECTED: "rejected it",
    Action.PAUSE_REQUESTED: "paused it",
    Action.RESUMED: "resumed it",
    Action.HEALTH_OVERRIDDEN: "overrode health signals",
    Action.SCHEDULE_OVERRIDDEN: "overrode its schedule",
    Action.BLOCKERS_TERMINATED: "terminated the sessions that blocked it",
    Action.CANCEL_REQUESTED: "cancelled it",
    Action.FORCE_REQUESTED: "stopped it by force",
    Action.RESOLVED: "resolved it",
}
_DECISIVE = {
    RunState.PAUSED: ("Paused", {Action.PAUSE_REQUESTED}),
    RunState.CANCELLING: ("Cancelled", {Action.CANCEL_REQUESTED, Action.FORCE_REQUESTED}),
    RunState.CANCELLED: ("Cancelled", {Action.CANCEL_REQUESTED, Action.FORCE_REQUESTED}),
    RunState.REJECTED: ("Rejected", {Action.REJECTED}),
    RunState.RESOLVED: ("Resolved", {Action.RESOLVED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Something that a user did with a run."""

    who: str
    what: str
    why: str
    at: str
    how: str = ""  # of a resolution


def activities(entries: Iterable[EntryRecord]) -> list[Activity]:
    return [_activity(entry, _DONE.get(Action(entry.action), "")) for entry in entries]


def decisive(run: RunRecord, entries: Sequence[EntryRecord]) -> Activity | None:
    """Return who brought the run into its state, and why; None if no user did."""
    what, actions = _DECISIVE.get(run.state, ("", set[Action]()))
    found = [entry for entry in entries if entry.action in actions]
    return _activity(found[-1], what) if found else None


def _activity(entry: EntryRecord, what: str) -> Activity:
    return Activity(
        who=entry.actor_name or entry.actor_kind,
        what=what,
        why=str(entry.facts.get("reason") or ""),
        at=entry.at,
        how=str(entry.facts.get("how") or "").replace("_", " "),
    )


_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)$')
_NOT_OF_THE_PROJECT = re.compile(
    r"[\\/](?:site-packages|dist-packages|migration_route)[\\/]|[\\/]lib[\\/]python3|^<"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Where in the project's code a step failed."""

    step: int | None  # the position of the step
    place: str  # "shop/migrations/0004_fill.py, line 17, in forwards"; "": not known
    code: str  # that line of code
    traceback: str


def failure_of(events: Iterable[EventRecord]) -> Failure | None:
    """Return the last error with a traceback."""
    errors = [
        event
        for event in events
        if event.kind == EventKind.ERROR and event.facts.get("traceback")
    ]
    if not errors:
        return None
    text = str(errors[-1].facts["traceback"])
    place, code = _last_frame_of_the_project(text.splitlines())
    return Failure(step=errors[-1].step, place=place, code=code, traceback=text)


def _last_frame_of_the_project(lines: Sequence[str]) -> tuple[str, str]:
    for number in range(len(lines) - 1, -1, -1):
        frame = _FRAME.match(lines[number])
        if frame is None or _NOT_OF_THE_PROJECT.search(frame["file"]):
            continue
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        short = "/".join(frame["file"].split("/")[-3:])
        code = "" if following.startswith("File ") else following
        return f"{short}, line {frame['line']}, in {frame['name']}", code
    return "", ""
