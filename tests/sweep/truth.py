"""Checks what a run reports against the database."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.outcome.catalogs import schema_of
from tests.outcome.outcome import Outcome, differences, read_outcome
from tests.sweep.steps import DATA

if TYPE_CHECKING:
    from tests.harness.database import Database
    from tests.outcome.catalogs import Schema
    from tests.sweep.steps import Step

BEGUN = frozenset({"failed", "partial", "not_started"})
"""The states that a step may report when it is not applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The contents of the shop at one time."""

    schema: Schema
    data: dict[str, list[tuple[Any, ...]]]

    def differs_from(self, other: Seen) -> list[str]:
        """List what is here and not there, and vice versa."""
        found = []
        for kind in self.schema:
            ours, theirs = Counter(self.schema[kind]), Counter(other.schema[kind])
            found += [f"too much: {kind} {thing}" for thing in ours - theirs]
            found += [f"missing: {kind} {thing}" for thing in theirs - ours]
        for table in DATA:
            if self.data.get(table) != other.data.get(table):
                found.append(
                    f"rows of {table}: {self.data.get(table)} "
                    f"instead of {other.data.get(table)}"
                )
        return found


def look(database: Database) -> Seen:
    """Read the shop over fresh connections."""
    tables = database.tables()
    return Seen(
        schema=schema_of(database),
        data={
            table: _without_ids(database, table, query)
            for table, query in DATA.items()
            if table in tables
        },
    )


def _without_ids(database: Database, table: str, query: str) -> list[tuple[Any, ...]]:
    """Read rows by the names of their columns, without their ids: a repeated step may leave
    different ids."""
    columns = sorted(database.columns(table) - {"id"})
    listed = ", ".join(columns)
    return sorted(database.rows(query.replace("*", listed)), key=repr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The result of an undisturbed run: after each step, and at its end."""

    after: list[Seen]  # after[n]: n steps are applied, without a trace of the next one
    end: Outcome


def untruths(
    run: dict[str, Any], database: Database, plan: list[Step], reference: Reference
) -> list[str]:
    """List the false statements in the report of an ended run."""
    recorded = [name for name in database.applied() if name != "0001_initial"]
    names = [step.name for step in plan]
    count = len(recorded)
    if recorded != names[:count]:
        return [f"recorded out of turn: {recorded}"]
    found = _of_steps(run, count)
    left = look(database).differs_from(reference.after[count])
    match run["state"]:
        case "succeeded":
            if count < len(names):
                found.append(f"says succeeded, and {names[count]} is not recorded")
            elif left:
                found.append(f"says succeeded, and: {'; '.join(left[:3])}")
            elif lacks := differences(reference.end, read_outcome(database)):
                found.append(f"says succeeded, and: {'; '.join(lacks[:3])}")
        case "failed":
            if left:
                found.append(f"says failed, and {names[count]} left: {'; '.join(left[:3])}")
        case "partial":
            if count == len(names):
                found.append("says partial, and every step is recorded")
            else:
                found += _of_operations(run["steps"][count], database, plan[count])
        case state:
            found.append(f"ended as {state} ({run['outcome']})")
    return found


def is_over_cautious(run: dict[str, Any], database: Database, reference: Reference) -> bool:
    """Return whether a run reports partial although nothing of its step is present."""
    count = len(database.applied()) - 1
    return run["state"] == "partial" and not look(database).differs_from(
        reference.after[count]
    )


def _of_steps(run: dict[str, Any], count: int) -> list[str]:
    """Compare the reported state of each step with the number of recorded steps."""
    found = []
    for position, step in enumerate(run["steps"]):
        said = step["state"]
        if position < count:
            wrong = said != "applied"
        elif position == count:
            wrong = said not in BEGUN
        else:
            wrong = said != "not_started"
        if wrong:
            found.append(f"says {said} of {step['name']}, with {count} recorded")
    return found


def _of_operations(said: dict[str, Any], database: Database, step: Step) -> list[str]:
    """Compare the reported state of each operation that leaves a trace with the catalog."""
    found = []
    for operation in said.get("operations") or ():
        position, word = operation["position"], operation["state"]
        # After the last operation comes what Django defers to the end of a step.
        look_for = step.works[position].is_in if position < len(step.works) else None
        if look_for is None:
            continue
        is_in = look_for(database)
        if (word in PRESENT and not is_in) or (word in ABSENT and is_in):
            found.append(
                f"says {word} of operation {position} of {step.name}, "
                f"and it is {'in' if is_in else 'not in'}"
            )
    return found


PRESENT = frozenset({"present"})
ABSENT = frozenset({"absent"})
"""The states that a run reports for an operation that has left everything, or nothing."""
