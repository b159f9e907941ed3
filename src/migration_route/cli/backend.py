"""What the verbs of both command lines need: the services of a project, or its API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from migration_route.core.enums import Mode, Phase
from migration_route.ledger.hashchain import ChainHead
from migration_route.presentation import schemas

Kind = TypeVar("Kind", bound=schemas.Answer)

RunControl = Literal["cancel", "pause", "resume", "approve", "reject", "resolve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswer(Generic[Kind]):
    """An answer and its JSON: `--json` prints all of the JSON, including fields that this
    version does not know."""

    value: Kind
    raw: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanArguments:
    """The plan that the command line names."""

    database: str
    targets: list[str]
    mode: Mode = Mode.APPLY
    phase: Phase | None = None


class Backend(Protocol):
    """Answers the verbs, in the types of the wire.

    A method raises `RouteError`; over HTTP also `ProblemResponse`.
    """

    def status(self) -> BackendAnswer[schemas.StatusAnswer]: ...

    def plan(self, wanted: PlanArguments) -> BackendAnswer[schemas.PlanAnswer]: ...

    def plan_to_apply(
        self, wanted: PlanArguments, *, has_details: bool
    ) -> BackendAnswer[schemas.PlanAnswer]: ...

    def fingerprint(self, wanted: PlanArguments) -> str: ...

    def health(self, wanted: PlanArguments) -> BackendAnswer[schemas.HealthAnswer]: ...

    def runs(
        self, *, database: str | None, limit: int
    ) -> BackendAnswer[schemas.RunsAnswer]: ...

    def run(self, run: str) -> BackendAnswer[schemas.RunAnswer]: ...

    def events(
        self, run: str, *, after: int, limit: int, wait: float
    ) -> schemas.EventsAnswer:
        """Return the events after a number; first wait up to so many seconds."""

    def waiting_line(self, run: str) -> str:
        """Return why a run does not start yet; "" if it has, or if that is unknown."""

    def create_run(self, wanted: schemas.CreateRun) -> BackendAnswer[schemas.RunAnswer]: ...

    def control_run(
        self, run: str, action: RunControl, wanted: Mapping[str, Any]
    ) -> BackendAnswer[schemas.RunAnswer]:
        """Change a run as requested: with `reason`, and with `force` or `how`."""

    def terminate_blockers(
        self, run: str, *, reason: str
    ) -> BackendAnswer[schemas.TerminatedBlockersAnswer]: ...

    def create_rehearsal(
        self, wanted: schemas.CreateRehearsal
    ) -> BackendAnswer[schemas.RehearsalAnswer]: ...

    def rehearsal(
        self, rehearsal: str, *, wait: float = 0.0
    ) -> BackendAnswer[schemas.RehearsalAnswer]:
        """Return a rehearsal; first wait up to so many seconds for its end."""

    def rehearsals(self, *, limit: int) -> BackendAnswer[schemas.RehearsalsAnswer]: ...

    def verify(self, head: ChainHead | None) -> BackendAnswer[schemas.VerificationAnswer]:
        """Verify the ledger, and that it still contains the entry `head`."""

    def evidence(self, run: str) -> bytes:
        """Return the evidence bundle of a run."""

    def export(self) -> Iterator[bytes]: ...
