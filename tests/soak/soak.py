"""The clients of the soak test, and the checks after they have finished."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import processes
from tests.harness.leftovers import leftovers, words_left
from tests.harness.pairs import Pair
from tests.harness.project import Options, Project
from tests.harness.servers import ServerKind
from tests.harness.site import Site
from tests.outcome.outcome import OWN_APP
from tests.soak.history import MIGRATIONS, ROWS, TARGETS
from tests.sweep.truth import Seen, look

if TYPE_CHECKING:
    from tests.harness.client import Client
    from tests.harness.database import Database
    from tests.harness.prepared import Prepared

SERVERS = 2
CLIENTS = 4
ENDS = frozenset({"succeeded", "noop", "stale"})
"""Allowed end states: another client may have been faster, but no run fails."""

REFUSALS = frozenset({"active_run", "plan_changed"})
PATIENCE = 180.0  # seconds for one run
MORE_DESCRIPTORS = 8  # that a server may have open at its end, for what it has cached


@dataclass(slots=True)
class Heard:
    """The answers that the clients received."""

    accepted: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Soaked:
    """The result of the soak test."""

    runs: int
    ends: Counter[str]
    refusals: Counter[str]
    seconds: float
    violations: list[str]

    def __str__(self) -> str:
        return (
            f"{self.runs} runs ({_listed(self.ends)}), refused: "
            f"{_listed(self.refusals)}, {self.seconds:.0f} s, "
            f"{len(self.violations)} violations"
        )


def soak(
    vendor: str, folder: Path, prepared: Prepared, *, runs: int, seed: int = 0
) -> Soaked:
    """Race for that many runs on one kind of database, and check what is left."""
    folder.mkdir()
    database = prepared.copy(vendor, folder)
    expected = prepared.copy(vendor, folder)
    project = Project(folder / "project", {"default": database}, Options())
    project.add_migrations(MIGRATIONS)
    site = Site(Pair(vendor, ServerKind.THREADS), project)
    try:
        database.execute(*ROWS)
        after = _undisturbed(folder / "django", expected)
        for _ in range(SERVERS):
            site.serve(workers=1)
        before = _descriptors(site)
        start = time.monotonic()
        heard = race(site, runs=runs, seed=seed)
        seconds = time.monotonic() - start
        return _judged(site, heard, after, before, seconds)
    finally:
        with contextlib.redirect_stdout(sys.stderr):  # output of the servers
            site.stop()
        database.drop()
        expected.drop()


def _undisturbed(folder: Path, database: Database) -> list[Seen]:
    """Migrate with Django step by step, and return the state after each step."""
    project = Project(folder, {"default": database}, Options())
    project.add_migrations(MIGRATIONS)
    project.manage("migrate", OWN_APP, "--verbosity", "0")
    database.execute(*ROWS)
    after = [look(database)]
    for name in MIGRATIONS:
        project.manage("migrate", "shop", name, "--verbosity", "0")
        after.append(look(database))
    return after


def race(site: Site, *, runs: int, seed: int) -> Heard:
    """Let the clients request random targets until that many runs were accepted."""
    heard, lock = Heard(), threading.Lock()

    def ask(number: int) -> None:
        client = site.client("operator", server=site.servers[number % SERVERS])
        dice = random.Random(f"{seed} {number}")  # noqa: S311 - not a secret
        while len(heard.accepted) < runs:
            _one_request(client, dice, heard, lock)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(ask, number) for number in range(CLIENTS)]:
            done.result()
    return heard


def _one_request(
    client: Client, dice: random.Random, heard: Heard, lock: threading.Lock
) -> None:
    """Read a plan and request a run of it; then wait for that run or the one that blocks
    it."""
    answer = client.ask_for_plan(f"shop.{dice.choice(TARGETS)}")
    if answer.status_code != 200:
        with lock:
            heard.surprises.append(f"plan: {answer.status_code} {answer.text[:300]}")
        return
    plan = answer.json()
    if plan["direction"] == "none":
        return
    answer = client.ask_for_run(plan)
    body = answer.json()
    with lock:
        if answer.status_code == 202:
            heard.accepted.append(body["id"])
            waited = body["id"]
        elif answer.status_code == 409 and body["code"] in REFUSALS:
            heard.refused.append(body)
            waited = body.get("run")
        else:
            heard.surprises.append(f"run: {answer.status_code} {answer.text[:300]}")
            waited = None
    if waited:
        client.wait_for_end(waited, seconds=PATIENCE)


def _judged(
    site: Site, heard: Heard, after: list[Seen], before: Counter[int], seconds: float
) -> Soaked:
    client = site.client("operator")
    runs = every_run(client)
    found = [*heard.surprises, *accounts(runs, heard)]
    count = len(site.applied()) - 1
    found += look(site.database).differs_from(after[count])
    verified = client.get("ledger/verify")
    if not verified["intact"]:
        found.append(f"the ledger does not verify: {verified['message']}")
    ours = {server.process.pid for server in site.servers if server.process}
    found += leftovers(site.database, site.project.folder.parent, ours=ours)
    for run in runs:
        found += words_left(run["id"])
    more = _descriptors(site) - before
    found += [
        f"server process {pid} holds {number} descriptors more"
        for pid, number in more.items()
        if number > MORE_DESCRIPTORS
    ]
    return Soaked(
        runs=len(runs),
        ends=Counter(run["state"] for run in runs),
        refusals=Counter(refusal["code"] for refusal in heard.refused),
        seconds=seconds,
        violations=found,
    )


def accounts(runs: list[dict[str, Any]], heard: Heard) -> list[str]:
    """Compare the answers with the recorded runs, and the runs with each other."""
    known = Counter(run["id"] for run in runs)
    told = Counter(heard.accepted)
    found = [f"accepted and not on record: {run}" for run in told - known]
    found += [f"on record and never accepted: {run}" for run in known - told]
    found += [
        f"refused because of {refusal.get('run')}, which is not on record"
        for refusal in heard.refused
        if refusal["code"] == "active_run" and refusal.get("run") not in known
    ]
    found += [
        f"run {run['id']} ended as {run['state']}: {run['error']}"
        for run in runs
        if run["state"] not in ENDS
    ]
    begun = sorted(
        (run["started_at"], run["finished_at"], run["id"])
        for run in runs
        if run["started_at"]
    )
    found += [
        f"at work at the same time: {one[2]} until {one[1]}, {other[2]} from {other[0]}"
        for one, other in pairwise(begun)
        if one[1] > other[0]
    ]
    return found


def every_run(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {}
    while True:
        page = client.get("runs", **query)
        found += page["runs"]
        if page["next"] is None:
            return found
        query = {"before": page["next"]}


def _descriptors(site: Site) -> Counter[int]:
    """Count the open descriptors of each process that handles requests."""
    pids = set[int]().union(*(server.worker_pids() for server in site.servers))
    own = {pid for pid in pids if "migration_route run" not in processes.command_line(pid)}
    return Counter({pid: len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in own})


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.most_common()) or "none"
