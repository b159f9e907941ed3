"""The services of this process as the backend of the verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from migration_route.access.actors import shell_actor
from migration_route.cli.backend import (
    BackendAnswer,
    Kind,
    PlanArguments,
    RunControl,
)
from migration_route.cli.local import plan_request
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import DEFAULT_DETAILS, Details, Plan
from migration_route.presentation import schemas, serializers
from migration_route.presentation.text.runs import waits_for
from migration_route.services import (
    apply,
    approvals,
    control,
    ledger,
    plans,
    rehearsals,
    resolve,
    runs,
)
from migration_route.services.evidence import bundle
from migration_route.services.plans import approval_requirement_for

_EVERYTHING = Details(budget=600.0)
_LONGEST_WAIT = 0.3  # seconds between two readings of events


_CONTROLS: dict[RunControl, Callable[..., RunRecord]] = {
    "cancel": control.cancel,
    "pause": control.pause,
    "resume": control.resume,
    "approve": approvals.approve,
    "reject": approvals.reject,
    "resolve": resolve.resolve,
}


def _answer(value: Kind) -> BackendAnswer[Kind]:
    return BackendAnswer(value=value, raw=schemas.to_json(value))


class LocalBackend:
    """Calls services as the account of this process."""

    def __init__(self) -> None:
        self.actor = shell_actor()

    def status(self) -> BackendAnswer[schemas.StatusAnswer]:
        return _answer(serializers.status_answer(runs.status(self.actor)))

    def plan(self, wanted: PlanArguments) -> BackendAnswer[schemas.PlanAnswer]:
        """Return a plan with all details, its last rehearsal and the start of its run."""
        found, answer = self._plan(wanted, _EVERYTHING)
        last = rehearsals.last_rehearsal_of(found, self.actor)
        answer = serializers.with_rehearsal(answer, last)
        opening = plans.next_opening(found.database)
        return _answer(serializers.with_opening(answer, opening))

    def plan_to_apply(
        self, wanted: PlanArguments, *, has_details: bool
    ) -> BackendAnswer[schemas.PlanAnswer]:
        details = DEFAULT_DETAILS if has_details else None
        return _answer(self._plan(wanted, details)[1])

    def _plan(
        self, wanted: PlanArguments, details: Details | None
    ) -> tuple[Plan, schemas.PlanAnswer]:
        request = plan_request(wanted)
        found = plans.plan(request, self.actor, details)
        requirement = approval_requirement_for(request, found, self.actor, details)
        answer = serializers.plan_answer(found)
        return found, serializers.with_approval_requirement(answer, requirement)

    def fingerprint(self, wanted: PlanArguments) -> str:
        return plans.plan(plan_request(wanted), self.actor).fingerprint

    def health(self, wanted: PlanArguments) -> BackendAnswer[schemas.HealthAnswer]:
        found = plans.health(plan_request(wanted), self.actor)
        return _answer(
            serializers.health_answer(found.database, found.moment, found.ignored)
        )

    def runs(
        self, *, database: str | None, limit: int
    ) -> BackendAnswer[schemas.RunsAnswer]:
        found = runs.list_all(self.actor, database=database, limit=limit)
        return _answer(serializers.runs_answer(found, limit=limit))

    def run(self, run: str) -> BackendAnswer[schemas.RunAnswer]:
        return _answer(serializers.run_answer(runs.show(run, self.actor)))

    def events(
        self, run: str, *, after: int, limit: int, wait: float
    ) -> schemas.EventsAnswer:
        if wait:
            runs.wait(run, self.actor, seconds=min(wait, _LONGEST_WAIT))
        page = runs.events(run, self.actor, after=after, limit=limit)
        return serializers.events_answer(page)

    def waiting_line(self, run: str) -> str:
        return waits_for(self.run(run).value)

    def create_run(self, wanted: schemas.CreateRun) -> BackendAnswer[schemas.RunAnswer]:
        request = apply.ApplyRequest(
            database=wanted.database,
            targets=tuple(wanted.targets),
            mode=wanted.mode,
            phase=wanted.phase,
            fingerprint=wanted.fingerprint,
            reason=wanted.reason,
            rebuild_invalid_indexes=wanted.rebuild_invalid_indexes,
            at=wanted.at,
            wait_for_window=wanted.wait_for_window,
        )
        return _answer(serializers.run_answer(apply.apply(request, self.actor)))

    def control_run(
        self, run: str, action: RunControl, wanted: Mapping[str, Any]
    ) -> BackendAnswer[schemas.RunAnswer]:
        found = _CONTROLS[action](run, self.actor, **wanted)
        return _answer(serializers.run_answer(found))

    def terminate_blockers(
        self, run: str, *, reason: str
    ) -> BackendAnswer[schemas.TerminatedBlockersAnswer]:
        found = control.terminate_blockers(run, self.actor, reason=reason)
        return _answer(
            serializers.terminated_blockers_answer(
                found.run, found.terminated, found.not_terminated
            )
        )

    def create_rehearsal(
        self, wanted: schemas.CreateRehearsal
    ) -> BackendAnswer[schemas.RehearsalAnswer]:
        request = rehearsals.RehearseRequest(
            database=wanted.database,
            targets=tuple(wanted.targets),
            phase=wanted.phase,
            fingerprint=wanted.fingerprint,
            kind=wanted.kind,
            round_trip=wanted.round_trip,
            in_place=wanted.in_place,
            reason=wanted.reason,
        )
        record = rehearsals.rehearse(request, self.actor)
        return _answer(serializers.rehearsal_answer(record))

    def rehearsal(
        self, rehearsal: str, *, wait: float = 0.0
    ) -> BackendAnswer[schemas.RehearsalAnswer]:
        record = rehearsals.wait(rehearsal, self.actor, seconds=wait)
        return _answer(serializers.rehearsal_answer(record))

    def rehearsals(self, *, limit: int) -> BackendAnswer[schemas.RehearsalsAnswer]:
        found = rehearsals.list_all(self.actor, limit=limit)
        return _answer(serializers.rehearsals_answer(found, limit=limit))

    def verify(self, head: ChainHead | None) -> BackendAnswer[schemas.VerificationAnswer]:
        found = ledger.verify(self.actor, head=head)
        return _answer(serializers.verification_answer(found))

    def evidence(self, run: str) -> bytes:
        return bundle(run, self.actor).content

    def export(self) -> Iterator[bytes]:
        return ledger.export(self.actor)
