"""`GET metrics`: the metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse

from migration_route import __version__
from migration_route.access.authentication import authenticate
from migration_route.api import requests
from migration_route.core.clock import parse_time
from migration_route.core.enums import RunState
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from migration_route.planning.plan import DatabaseStatus
from migration_route.services.ledger import LedgerFigures, Measurement, measure

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A gauge: its name, its help text and its values by labels."""

    name: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def exposition(metrics: Iterable[Metric]) -> str:
    """Return the metrics as text; metrics without a value are left out."""
    lines = []
    for metric in metrics:
        if not metric.samples:
            continue
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} gauge")
        lines += [
            f"{metric.name}{_labels(labels)} {value}" for labels, value in metric.samples
        ]
    return "".join(f"{line}\n" for line in lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (
        f'{name}="{_escaped(value)}"'.replace("\r", " ") for name, value in labels.items()
    )
    return "{" + ",".join(pairs) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


_NAME = "migration_route_"
_AT_WORK = frozenset({RunState.RUNNING, RunState.CANCELLING})


def get_metrics(request: HttpRequest) -> HttpResponse:
    """`GET metrics`, in the text format of Prometheus; needs the scope `read`."""
    actor = authenticate(request)
    requests.check_query(request, ())
    found = measure(actor)
    return HttpResponse(exposition(metrics_of(found)), content_type=CONTENT_TYPE)


def metrics_of(found: Measurement) -> Iterator[Metric]:
    """Return every metric, in the order of the documentation."""
    build = {"version": __version__, "build": sources.build()}
    yield _metric("info", "Build that responds; always 1.", [(build, 1.0)])
    yield from _of_databases(found.databases)
    yield _metric(
        "ledger_reachable",
        "1 if the ledger's database responds.",
        [({}, float(found.known is not None))],
    )
    if found.known is not None:
        yield from _of_runs(found.known)
        yield from _of_the_ledger(found.known)


def _of_databases(databases: Iterable[DatabaseStatus]) -> Iterator[Metric]:
    counted = [({"database": each.database}, each) for each in databases]
    yield _metric(
        "database_reachable",
        "1 if the database responds.",
        [(labels, float(each.reachable)) for labels, each in counted],
    )
    yield _metric(
        "pending",
        "Pending migrations.",
        _known((labels, _length(each.pending)) for labels, each in counted),
    )
    yield _metric(
        "required",
        "Pending migrations that the running code requires.",
        _known((labels, _length(each.required)) for labels, each in counted),
    )
    yield _metric(
        "applied",
        "Applied migrations.",
        _known((labels, each.applied) for labels, each in counted),
    )
    yield _metric(
        "needs_resolution",
        "1 while a partial run must be resolved: no run starts.",
        [(labels, float(each.unresolved_run is not None)) for labels, each in counted],
    )


def _of_runs(known: LedgerFigures) -> Iterator[Metric]:
    yield _metric(
        "runs",
        "Recorded runs.",
        [
            (
                {"database": each.database, "state": each.state, "outcome": each.outcome},
                float(each.count),
            )
            for each in known.counts
        ],
    )
    finished = [run for run in known.last if run.started_at and run.finished_at]
    yield _metric(
        "last_run_duration_seconds",
        "Duration of the last run that has ended.",
        [(_of(run), _seconds(run.started_at, run.finished_at)) for run in finished],
    )
    yield _metric(
        "last_run_finished_timestamp_seconds",
        "End of the last run that has ended, in seconds since the epoch.",
        [(_of(run), parse_time(run.finished_at).timestamp()) for run in known.last],
    )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    active = known.active
    yield _metric(
        "active_run_age_seconds",
        "Time since the active run was requested.",
        [(_of(each.run), _seconds(each.run.created_at, now)) for each in active],
    )
    yield _metric(
        "active_run_waits",
        "1 while the active run waits: for a lock, health, its schedule or a user.",
        [(_of(each.run), float(each.run.state not in _AT_WORK)) for each in active],
    )
    yield _metric(
        "heartbeat_age_seconds",
        "Time since the last heartbeat of the active run.",
        [({"database": each.run.database}, each.silent_seconds) for each in active],
    )


def _of_the_ledger(known: LedgerFigures) -> Iterator[Metric]:
    yield _metric(
        "ledger_entries", "Entries of the ledger.", [({}, float(known.ledger.entries))]
    )
    yield _metric(
        "ledger_tail_intact",
        "1 while the last 100 entries of the ledger are intact.",
        [({}, float(known.ledger.is_tail_intact))],
    )
    by_recipient = [({"recipient": each.recipient}, each) for each in known.backlogs]
    yield _metric(
        "messages_pending",
        "Webhook and email messages that are not delivered yet.",
        [(labels, float(each.pending)) for labels, each in by_recipient],
    )
    yield _metric(
        "messages_given_up",
        "Messages given up in the last 7 days.",
        [(labels, float(each.given_up)) for labels, each in by_recipient],
    )


def _metric(
    name: str, text: str, samples: Iterable[tuple[dict[str, str], float]]
) -> Metric:
    return Metric(name=_NAME + name, help=text, samples=tuple(samples))


def _length(labels: tuple[str, ...] | None) -> int | None:
    return None if labels is None else len(labels)


def _known(
    samples: Iterable[tuple[dict[str, str], int | None]],
) -> list[tuple[dict[str, str], float]]:
    """Leave out unknown values: no value is better than a wrong one."""
    return [(labels, float(value)) for labels, value in samples if value is not None]


def _of(run: RunRecord) -> dict[str, str]:
    return {"database": run.database, "state": run.state}


def _seconds(begin: str, end: str) -> float:
    return max((parse_time(end) - parse_time(begin)).total_seconds(), 0.0)
