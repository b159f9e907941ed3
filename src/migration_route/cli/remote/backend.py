"""The API of a server as the backend of the verbs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import msgspec

from migration_route.cli.backend import BackendAnswer, PlanArguments, RunControl
from migration_route.cli.remote.client import ProblemResponse, RouteClient, not_ours
from migration_route.cli.remote.transport import Unreachable
from migration_route.cli.terminal import Terminal
from migration_route.core.enums import Mode, RunState
from migration_route.core.errors import StaleCode
from migration_route.ledger.hashchain import ChainHead
from migration_route.presentation import schemas

CONSECUTIVE_RESPONSES = 5
"""How many consecutive responses have to come from the expected build."""

_PAUSE = 1.0
_SHORT_PAUSE = 0.2
_LONGEST_PAUSE = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBackend:
    """Calls the API of one server."""

    client: RouteClient
    terminal: Terminal
    build: str  # the build that has to make the plan and the run; "": any
    until: float  # when to stop waiting for it, as a time of `time.monotonic`
    approval_timeout: float  # seconds to wait for an approval

    def status(self) -> BackendAnswer[schemas.StatusAnswer]:
        return self.client.get("status", schemas.StatusAnswer)

    def plan(
        self, wanted: PlanArguments, *, details: str | None = None
    ) -> BackendAnswer[schemas.PlanAnswer]:
        return self.client.get(
            "plan",
            schemas.PlanAnswer,
            database=wanted.database,
            target=wanted.targets,
            mode=None if wanted.mode is Mode.APPLY else wanted.mode,
            phase=wanted.phase,
            details=details,
        )

    def plan_to_apply(
        self, wanted: PlanArguments, *, has_details: bool
    ) -> BackendAnswer[schemas.PlanAnswer]:
        """Return the plan as the build of `--build` computes it, or any build without it.

        Raises `StaleCode` if another build still responds after `--build-timeout`.
        """
        if self.build:
            self._wait_for_build()
        while True:
            plan = self.plan(wanted, details=None if has_details else "none")
            if self.build in {"", plan.value.build}:
                return plan
            if time.monotonic() > self.until:
                raise StaleCode(
                    f"The plan came from build {plan.value.build!r}, not {self.build!r}."
                )
            time.sleep(_PAUSE)

    def fingerprint(self, wanted: PlanArguments) -> str:
        return self.plan(wanted, details="none").value.fingerprint

    def health(self, wanted: PlanArguments) -> BackendAnswer[schemas.HealthAnswer]:
        return self.client.get(
            "health", schemas.HealthAnswer, database=wanted.database, target=wanted.targets
        )

    def runs(
        self, *, database: str | None, limit: int
    ) -> BackendAnswer[schemas.RunsAnswer]:
        return self.client.get("runs", schemas.RunsAnswer, database=database, limit=limit)

    def run(self, run: str) -> BackendAnswer[schemas.RunAnswer]:
        return self.client.get(_path("runs", run), schemas.RunAnswer)

    def events(
        self, run: str, *, after: int, limit: int, wait: float
    ) -> schemas.EventsAnswer:
        time.sleep(wait)
        path = _path("runs", run, "events")
        return self.client.get(path, schemas.EventsAnswer, after=after, limit=limit).value

    def waiting_line(self, run: str) -> str:
        del run  # it would take another request for each poll
        return ""

    def create_run(self, wanted: schemas.CreateRun) -> BackendAnswer[schemas.RunAnswer]:
        """Start one run; with `--wait-for-approval`, return it when it is approved or has
        ended."""
        run = self._create_run(_body(msgspec.structs.replace(wanted, build=self.build)))
        if run.value.state != RunState.AWAITING_APPROVAL:
            return run
        self.terminal.write_error(f"Run {run.value.id} awaits approval.")
        until, pause = time.monotonic() + self.approval_timeout, _SHORT_PAUSE
        words = "The run still awaits approval. Watch it with"
        with self.terminal.resumable(words, f"watch {run.value.id}"):
            while run.value.state == RunState.AWAITING_APPROVAL:
                if time.monotonic() >= until:
                    break
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
                run = self.run(run.value.id)
        return run

    def _create_run(self, body: dict[str, Any]) -> BackendAnswer[schemas.RunAnswer]:
        """Start one run: the Idempotency-Key makes a repeated request the same one. A
        refusal by another build than that of `--build` is retried."""
        headers = {"Idempotency-Key": f"migration-route-{uuid4()}"}
        while True:
            try:
                return self.client.post("runs", body, schemas.RunAnswer, headers=headers)
            except ProblemResponse as error:
                is_other = error.problem.code == StaleCode.code and self.build
                if not is_other or time.monotonic() > self.until:
                    raise
                time.sleep(_PAUSE)
            except (KeyboardInterrupt, Unreachable):
                self.terminal.write_error(
                    "The run may have started. Check with: migration-route runs"
                )
                raise

    def control_run(
        self, run: str, action: RunControl, wanted: Mapping[str, Any]
    ) -> BackendAnswer[schemas.RunAnswer]:
        return self.client.post(_path("runs", run, action), wanted, schemas.RunAnswer)

    def terminate_blockers(
        self, run: str, *, reason: str
    ) -> BackendAnswer[schemas.TerminatedBlockersAnswer]:
        path = _path("runs", run, "terminate-blockers")
        return self.client.post(path, {"reason": reason}, schemas.TerminatedBlockersAnswer)

    def create_rehearsal(
        self, wanted: schemas.CreateRehearsal
    ) -> BackendAnswer[schemas.RehearsalAnswer]:
        return self.client.post("rehearsals", _body(wanted), schemas.RehearsalAnswer)

    def rehearsal(
        self, rehearsal: str, *, wait: float = 0.0
    ) -> BackendAnswer[schemas.RehearsalAnswer]:
        time.sleep(wait)
        return self.client.get(_path("rehearsals", rehearsal), schemas.RehearsalAnswer)

    def rehearsals(self, *, limit: int) -> BackendAnswer[schemas.RehearsalsAnswer]:
        return self.client.get("rehearsals", schemas.RehearsalsAnswer, limit=limit)

    def verify(self, head: ChainHead | None) -> BackendAnswer[schemas.VerificationAnswer]:
        path = "ledger/verify"
        return self.client.get(path, schemas.VerificationAnswer, head=head and str(head))

    def evidence(self, run: str) -> bytes:
        return self.client.file(_path("runs", run, "evidence"))

    def export(self) -> Iterator[bytes]:
        return self.client.lines("ledger/export")

    def _wait_for_build(self) -> None:
        """Return when the build has responded several times in a row, each time over a new
        connection. Raises `StaleCode` if another build still responds at the end,
        `Unreachable` if none does."""
        in_a_row, is_reported = 0, False
        while True:
            seen = self._responding_build()
            in_a_row = in_a_row + 1 if seen == self.build else 0
            if in_a_row == CONSECUTIVE_RESPONSES:
                return
            if time.monotonic() > self.until:
                raise _wrong_build(self.build, seen)
            if seen != self.build and not is_reported:
                is_reported = True
                state = f"build {seen!r} responds" if isinstance(seen, str) else str(seen)
                self.terminal.trouble(f"Waiting for build {self.build!r}: {state}")
            time.sleep(_SHORT_PAUSE if in_a_row else _PAUSE)

    def _responding_build(self) -> str | Unreachable:
        """Return the build that responds now, or why none does."""
        try:
            reply = self.client.transport.send("GET", "ready")
        except Unreachable as error:
            if not error.is_passing:
                raise
            return error
        return Unreachable(not_ours(reply)) if reply.build is None else reply.build


def _wrong_build(build: str, seen: str | Unreachable) -> Exception:
    if isinstance(seen, Unreachable):
        return seen
    if seen == build:
        return StaleCode(
            f"Build {build!r} responds now, but another build did just before."
        )
    return StaleCode(
        f"Build {seen!r} responds instead of {build!r}.",
        hint="Check that the deploy has finished, or increase --build-timeout.",
    )


def _path(kind: str, name: str, *call: str) -> str:
    return "/".join((kind, quote(name, safe=""), *call))


def _body(wanted: schemas.CreateRun | schemas.CreateRehearsal) -> dict[str, Any]:
    """Return a request body without defaults, but with its database: an older server
    rejects a field that it does not know."""
    defaults = msgspec.to_builtins(type(wanted)())
    fields: dict[str, Any] = msgspec.to_builtins(wanted)
    said = {key: value for key, value in fields.items() if value != defaults[key]}
    return {"database": wanted.database, **said}
