"""Reads how long steps took before: in runs, in rehearsals with data, and in the exports of
the ledgers of other environments."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from migration_route.conf import route_settings
from migration_route.core.enums import DONE_STEP_STATES, Action, Direction, Mode
from migration_route.ledger.queries import list_runs
from migration_route.ledger.rehearsals import durations_of, list_rehearsals
from migration_route.ledger.step_evidence import parse_facts

logger = logging.getLogger("migration_route.ledger")

DURATION_SEARCH_LIMIT = 100
"""Number of newest runs, and of newest rehearsals, that are searched for a step."""

StepKey = tuple[str, str, str, str]
"""App, name, direction and source digest of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDuration:
    """How long a step took once."""

    ms: int
    database: str
    at: str  # when the run or the rehearsal was requested
    run: str = ""  # its id; "": it was a rehearsal
    rehearsal: str = ""
    environment: str = ""  # of the export; "": this ledger
    rows: int | None = None  # of the tables that it changes, before it; None: not known


def previous_durations(
    steps: Collection[StepKey],
) -> dict[StepKey, tuple[StepDuration, ...]]:
    """Return the durations of each step that finished before, the latest first.

    All databases count. Raises `DatabaseUnavailable`.
    """
    wanted = set(steps)
    found: dict[StepKey, list[StepDuration]] = {}
    for read in (_of_runs, _of_rehearsals, _of_exports) if wanted else ():
        for key, duration in read():
            if key in wanted:
                found.setdefault(key, []).append(duration)
    return {
        key: tuple(sorted(durations, key=lambda each: each.at, reverse=True))
        for key, durations in found.items()
    }


Found = Iterator[tuple[StepKey, StepDuration]]


def _of_runs() -> Found:
    for run in list_runs(database=None, before=None, limit=DURATION_SEARCH_LIMIT):
        if run.mode is not Mode.APPLY:
            continue  # a step that was only recorded took no time
        for step in run.steps:
            resumed = step.done_operations is not None  # only a part of the step ran
            if (
                step.state in DONE_STEP_STATES
                and step.duration_ms is not None
                and not resumed
            ):
                yield (
                    (step.app, step.name, step.direction, step.digest),
                    StepDuration(
                        ms=step.duration_ms,
                        run=run.id,
                        database=run.database,
                        at=run.created_at,
                        rows=step.rows,
                    ),
                )


def _of_rehearsals() -> Found:
    for rehearsal in list_rehearsals(limit=DURATION_SEARCH_LIMIT):
        for app, name, direction, digest, ms, rows in durations_of(rehearsal):
            yield (
                (app, name, direction, digest),
                StepDuration(
                    ms=ms,
                    rehearsal=rehearsal.id,
                    database=rehearsal.database,
                    at=rehearsal.created_at,
                    rows=rows,
                ),
            )


def _of_exports() -> Found:
    for environment, path in route_settings().durations.items():
        try:
            status = Path(path).stat()
            yield from _read_export(environment, path, status.st_mtime_ns, status.st_size)
        except (OSError, ValueError, TypeError, KeyError) as error:
            why = type(error).__name__
            logger.warning(
                "No durations of %s: cannot read %s (%s)", environment, path, why
            )


@lru_cache(maxsize=16)
def _read_export(
    environment: str, path: str, modified: int, size: int
) -> tuple[tuple[StepKey, StepDuration], ...]:
    """Return the durations in an exported ledger, read once for each state of the file."""
    del modified, size
    requests: dict[str, Mapping[str, Any]] = {}
    found: list[tuple[StepKey, StepDuration]] = []
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            facts = entry["facts"]
            facts = parse_facts(facts) if isinstance(facts, str) else facts
            if entry["action"] == Action.RUN_REQUESTED:
                requests[entry["run"]] = {**facts, "at": entry["at"]}
            elif entry["action"] == Action.STEP_FINISHED:
                request = requests.get(entry["run"], {})
                found += _of_entry(environment, entry, facts, request)
            elif entry["action"] == Action.REHEARSAL_ENDED:
                found += _of_rehearsal_entry(environment, entry, facts)
    return tuple(found)


def _of_entry(
    environment: str,
    entry: Mapping[str, Any],
    facts: Mapping[str, Any],
    request: Mapping[str, Any],
) -> Found:
    steps = request.get("steps", ())
    labels = [f"{app}.{name}" for app, name, _ in steps]
    if (
        request.get("mode") != Mode.APPLY
        or facts.get("state") not in DONE_STEP_STATES
        or not isinstance(facts.get("duration_ms"), int)
        or facts["step"] not in labels
    ):
        return
    position = labels.index(facts["step"])
    if request.get("resumes") and not position:
        return  # only a part of the step ran
    app, name, digest = steps[position]
    rows = request.get("rows")
    yield (
        (app, name, facts["direction"], digest),
        StepDuration(
            ms=facts["duration_ms"],
            run=entry["run"],
            database=entry["database"],
            at=request["at"],
            environment=environment,
            rows=rows[position] if rows else None,
        ),
    )


def _of_rehearsal_entry(
    environment: str, entry: Mapping[str, Any], facts: Mapping[str, Any]
) -> Found:
    for app, name, direction, digest, ms, rows in facts.get("durations", ()):
        yield (
            (app, name, Direction(direction), digest),
            StepDuration(
                ms=ms,
                rehearsal=facts["rehearsal"],
                database=entry["database"],
                at=entry["at"],
                environment=environment,
                rows=rows,
            ),
        )
