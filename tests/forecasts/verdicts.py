"""Compares forecasts with observations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum, unique

from migration_route.vendors.postgresql import contention
from tests.forecasts.observation import Outcome


@unique
class Verdict(StrEnum):
    """How a forecast compares with the observation."""

    HIT = "hit"
    STRONGER = "stronger"
    WEAKER = "weaker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """The verdicts on one operation."""

    locks: Verdict
    rewrites: Verdict
    scans: Verdict
    weaker: tuple[str, ...]  # observed, but not in the forecast


def verdicts_on(outcomes: list[Outcome]) -> Verdicts:
    """Compare each statement, then the operation as a whole, with its forecast."""
    weaker = [text for outcome in outcomes for text in _missed(outcome)]
    foretold: dict[str, str] = {}
    seen: dict[str, str] = {}
    for outcome in outcomes:
        for lock in outcome.forecast.locks:
            _raise(foretold, lock.table, [lock.mode])
        for table, modes in outcome.seen.modes.items():
            _raise(seen, table, modes)
    return Verdicts(
        locks=_verdict(weaker, "lock", foretold == seen),
        rewrites=_verdict(
            weaker,
            "rewrite",
            _union(o.forecast.rewrites for o in outcomes)
            == _union(o.seen.rewrites for o in outcomes),
        ),
        scans=_verdict(
            weaker,
            "scan",
            _union(o.forecast.scans for o in outcomes)
            == _union(o.seen.scans for o in outcomes),
        ),
        weaker=tuple(weaker),
    )


def _missed(outcome: Outcome) -> list[str]:
    foretold, seen = outcome.forecast, outcome.seen
    kept_out = {lock.table: _conflicts([lock.mode]) for lock in foretold.locks}
    return [
        *(
            f"lock {table} {sorted(modes)}: {seen.sql}"
            for table, modes in seen.modes.items()
            if not _conflicts(modes) <= kept_out.get(table, set())
        ),
        *(f"rewrite {table}: {seen.sql}" for table in seen.rewrites - {*foretold.rewrites}),
        *(f"scan {table}: {seen.sql}" for table in seen.scans - {*foretold.scans}),
    ]


def _conflicts(modes: Iterable[str]) -> set[str]:
    return {
        other
        for mode in modes
        for other in contention._MODES
        if contention.is_conflict(other, mode)
    }


def _raise(kept: dict[str, str], table: str, modes: Iterable[str]) -> None:
    for mode in modes:
        kept[table] = contention.strongest(kept.get(table, mode), mode)


def _verdict(weaker: list[str], what: str, is_hit: bool) -> Verdict:
    if any(text.startswith(what) for text in weaker):
        return Verdict.WEAKER
    return Verdict.HIT if is_hit else Verdict.STRONGER


def _union(many: Iterable[Iterable[str]]) -> set[str]:
    return {table for tables in many for table in tables}
