"""Tests every call of the API as every kind of actor.

The calls come from `openapi.json`, so none can be forgotten. Where an actor should be
denied, the call would have an effect otherwise; where it is allowed, the call is refused
because of the state. So no call may change anything but the ledger.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from migration_route.access import oidc
from migration_route.access.actors import shell_actor
from migration_route.api.openapi import document
from migration_route.core.credentials import digest_of
from migration_route.core.enums import (
    ActorKind,
    CopyKind,
    Direction,
    Mode,
    RehearsalState,
    RunState,
)
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger import rehearsals, runs
from migration_route.ledger.rehearsals import NewRehearsal
from migration_route.models import Entry, Rehearsal, Run
from migration_route.planning.plan import PlanRequest
from migration_route.services import audit, permits, reauthentication
from migration_route.services.plans import plain_plan
from tests.factories import a_new_run, tables
from tests.harness.issuer import AUDIENCE, Issuer

API = "/migrations/api/v1"
SCOPES = (
    "read",
    "plan",
    "rehearse",
    "apply",
    "reverse",
    "fake",
    "operate",
    "approve",
    "force",
    "resolve",
)
PEOPLE_ONLY = {"approve", "force", "resolve"}
BRINGS = {
    "read": {"read"},
    "operate": {"operate", "read"},
    "force": {"force", "read"},
    **{s: {s, "plan", "read"} for s in ("plan", "rehearse", "apply", "reverse", "fake")},
    **{s: {s, "plan", "read"} for s in ("approve", "resolve")},
}
ELSEWHERE = "203.0.113.9"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One call in one variant."""

    call: str  # method and path, as in openapi.json
    needs: frozenset[str] = frozenset()  # empty: public
    is_of_database: bool = True  # so a machine for another one is denied
    is_of_all: bool = False  # so a machine for one database is denied
    query: str = ""
    effective: dict[str, Any] = field(default_factory=dict)  # has an effect
    harmless: dict[str, Any] = field(default_factory=dict)  # has no effect

    @property
    def method(self) -> str:
        """Return the method in lowercase."""
        return self.call.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.call.partition(" ")[2]


def case(call: str, *needs: str, **words: Any) -> Case:
    """Return a case that requires these rights."""
    return Case(call=call, needs=frozenset(needs), **words)


WRONG = {"fingerprint": "0-0-0"}
WHY = {"reason": "a test"}
CASES = (
    case("get /ready"),
    case("get /openapi.json"),
    case("get /status", "read", is_of_database=False),
    case("get /plan", "plan"),
    case("get /health", "plan"),
    case("get /runs", "read", is_of_database=False),
    case("get /runs", "read", query="?database=default"),
    case("get /runs/{run}", "read"),
    case("get /runs/{run}/events", "read"),
    case("get /runs/{run}/evidence", "read"),
    case("get /ledger", "read", is_of_database=False),
    case("get /ledger/verify", "read", is_of_database=False),
    case("get /ledger/export", "read", is_of_all=True),
    # Not a right: for any signed-in staff member.
    case("post /reauthenticate", "login", effective={"password": "x"}),
    case("get /rehearsals", "read", is_of_database=False),
    case("get /rehearsals/{rehearsal}", "read"),
    case("post /rehearsals", "rehearse", effective={"fingerprint": "plan"}, harmless=WRONG),
    case("post /runs", "apply", effective={"fingerprint": "plan"}, harmless=WRONG),
    case(
        "post /runs",
        "apply",
        "reverse",
        effective={"targets": ["testapp.zero"], "fingerprint": "back"},
        harmless={"targets": ["testapp.zero"], **WRONG},
    ),
    case(
        "post /runs",
        "apply",
        "fake",
        effective={"fake": True, "fingerprint": "fake"},
        harmless={"fake": True, **WRONG},
    ),
    case("post /runs/{run}/cancel", "operate", effective=WHY),
    case(
        "post /runs/{run}/cancel",
        "force",
        effective={**WHY, "force": True},
        harmless={"force": True},
    ),
    case("post /runs/{run}/pause", "operate", effective=WHY),
    case("post /runs/{run}/resume", "operate", effective=WHY),
    case(
        "post /runs/{run}/resume",
        "force",
        effective={"force": True},
        harmless={"force": True},
    ),
    case("post /runs/{run}/resolve", "resolve", effective=WHY, harmless=WHY),
    case("post /runs/{run}/approve", "approve", effective=WHY),
    case("post /runs/{run}/reject", "approve", effective=WHY, harmless=WHY),
    case("post /runs/{run}/terminate-blockers", "force", effective=WHY, harmless=WHY),
)


class World:
    """The subject of the calls: a plan in each direction, and a run in each relevant
    state."""

    def __init__(self) -> None:
        self.fingerprints = {
            "plan": plain_plan(PlanRequest()).fingerprint,
            "back": plain_plan(PlanRequest(targets=("testapp.zero",))).fingerprint,
        }
        self.fingerprints["fake"] = plain_plan(PlanRequest(mode=Mode.FAKE)).fingerprint
        self.rehearsal = self._rehearsal()
        self.ended = self._run(RunState.CANCELLED)
        self.partial = self._run(RunState.PARTIAL)
        self.queued = self._run(RunState.QUEUED)
        self.awaiting = self._awaiting()

    def _run(self, state: RunState) -> str:
        run, _ = runs.create_run(a_new_run(database="other"))
        if state is not RunState.QUEUED:
            runs.move(run.id, to=state, expected={RunState.QUEUED})
        return run.id

    def _awaiting(self) -> str:
        requirement = ApprovalRequirement(required=1, rule="APPROVALS", why="so it is")
        run, _ = runs.create_run(
            a_new_run(database="default", approval_requirement=requirement)
        )
        return run.id

    def _rehearsal(self) -> str:
        made = rehearsals.create_rehearsal(
            NewRehearsal(
                database="default",
                kind=CopyKind.SCHEMA,
                round_trip=False,
                direction=Direction.FORWARDS,
                targets=(),
                fingerprint="another",
                steps=(),
                actor_kind=ActorKind.COMMAND,
                actor_name="a test",
                address="",
                reason="",
                build="this build",
            )
        )
        failed, queued = RehearsalState.FAILED, RehearsalState.QUEUED
        return rehearsals.move(made.id, to=failed, expected={queued}).id

    def address(self, which: Case, *, denied: bool) -> str:
        """Return the URL of the call: of a run that it would change, or of an ended one."""
        run = self.ended
        if denied and which.method == "post":
            about = {"resolve": self.partial}
            about |= dict.fromkeys(("approve", "reject"), self.awaiting)
            run = about.get(which.path.rpartition("/")[2], self.queued)
        path = which.path.replace("{run}", run).replace("{rehearsal}", self.rehearsal)
        return API + path + which.query

    def body(self, which: Case, *, denied: bool) -> dict[str, Any]:
        words = which.effective if denied else which.harmless
        name = words.get("fingerprint")
        return (
            {**words, "fingerprint": self.fingerprints.get(name, name)} if name else words
        )

    def rows(self) -> Any:
        """Return everything that a call could change, except the ledger."""
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT app, name FROM django_migrations ORDER BY id")
            recorded = cursor.fetchall()
        return (
            sorted(tables()),
            recorded,
            list(Run.objects.order_by("id").values_list("id", "state", "control_request")),
            list(Rehearsal.objects.values_list("id", "state")),
        )


@dataclass(frozen=True, kw_only=True)
class Who:
    """A kind of actor: its credentials, and the expected responses."""

    headers: Callable[[World], dict[str, str]] = lambda world: {}
    browser: Callable[[], Client] = lambda: Client(raise_request_exception=False)
    rights: frozenset[str] = frozenset()
    always: tuple[int, str] | None = None  # status and code of every call
    on_change: tuple[int, str] | None = None  # status and code of every change
    lacking: tuple[int, str] = (403, "forbidden")
    any_database: bool = True
    is_of_one: bool = False  # restricted to the one database that is requested
    address: str = "127.0.0.1"
    query: str = ""

    def refusal(self, which: Case) -> tuple[int, str] | None:
        """Return how this call is refused; None where it is allowed."""
        if not which.needs:
            return None
        if self.always is not None:
            return self.always
        if which.method == "post" and self.on_change is not None:
            return self.on_change
        if not which.needs <= self.rights:
            return self.lacking
        if (which.is_of_database or which.is_of_all) and not self.any_database:
            return 403, "forbidden"
        if which.is_of_all and self.is_of_one:
            return 403, "forbidden"
        if "login" in which.needs:
            return 403, "wrong_password"
        return None


LOGIN = frozenset({"login"})
NOBODY = (401, "unauthenticated")


def rights(*scopes: str) -> frozenset[str]:
    """Return these rights with all that they imply."""
    return frozenset().union(*(BRINGS[scope] for scope in scopes))


def bearing(secret: str) -> Callable[[World], dict[str, str]]:
    """Return the headers of a token."""
    return lambda world: {"Authorization": f"Bearer {secret}"}


def signed_in(*permissions: str, **fields: Any) -> Callable[[], Client]:
    """Return a function that signs such a user in, with a CSRF token."""

    def make() -> Client:
        user = User.objects.create_user("ada", **{"is_staff": True, **fields})
        names = ["view_run" if name == "read" else name for name in permissions]
        found = Permission.objects.filter(
            content_type__app_label="migration_route", codename__in=names
        )
        assert found.count() == len(names)
        user.user_permissions.set(found)
        browser = Client(enforce_csrf_checks=True, raise_request_exception=False)
        browser.force_login(user)
        browser.cookies["csrftoken"] = "x" * 32
        return browser

    return make


def csrf(world: World) -> dict[str, str]:
    """Return the CSRF header of a page of this site."""
    return {"X-CSRFToken": "x" * 32}


def foreign(world: World) -> dict[str, str]:
    """Return the headers of a foreign page that has obtained a token."""
    return {**csrf(world), "Origin": "https://elsewhere.example"}


def permit(**words: Any) -> Callable[[World], dict[str, str]]:
    """Return the headers of a permit for another plan."""

    def headers(world: World) -> dict[str, str]:
        text = permits.issue(
            permits.PermitRequest(
                plan=PlanRequest(targets=("testapp.0002_b",)),
                fingerprint=plain_plan(
                    PlanRequest(targets=("testapp.0002_b",))
                ).fingerprint,
                **words,
            ),
            shell_actor(),
        )[1]
        return bearing(text)(world)

    return headers


def used_permit(world: World) -> dict[str, str]:
    """Return the headers of a permit for the plan that a run has already used."""
    request = permits.PermitRequest(
        plan=PlanRequest(), fingerprint=world.fingerprints["plan"]
    )
    found, text = permits.issue(request, shell_actor())
    Run.objects.filter(pk=world.ended).update(permit=found.id)
    return bearing(text)(world)


ISSUER = Issuer()
ISSUER.stop()  # its keys are in the settings: no request is sent
EVERYTHING = rights(*(set(SCOPES) - PEOPLE_ONLY))
TOKENS = {
    **{scope: [scope] for scope in SCOPES if scope not in PEOPLE_ONLY},
    **{
        name: sorted(set(SCOPES) - PEOPLE_ONLY)
        for name in ("expired", "revoked", "elsewhere", "far", "all")
    },
}
MORE: dict[str, dict[str, Any]] = {
    "expired": {"expires": "2020-01-01"},
    "revoked": {"revoked": True},
    "elsewhere": {"databases": ["another"]},
    "far": {"networks": ["192.0.2.0/24"]},
}
ROUTE = {
    "LAUNCHER": "inline",
    "HEARTBEAT_TIMEOUT": "1h",
    "TOKENS": [
        {"name": n, "sha256": digest_of(f"{n}-x"), "scopes": s, **MORE.get(n, {})}
        for n, s in TOKENS.items()
    ],
    "NETWORKS": {"read": ["127.0.0.0/8"]},
    "OIDC": [
        {
            "name": "github",
            "issuer": ISSUER.address,
            "insecure": True,
            "audience": AUDIENCE,
            "claims": {"repository": "owner/shop", "ref": "refs/heads/main"},
            "scopes": ["apply"],
            "jwks": {"keys": ISSUER.published},
        }
    ],
}
CSRF = (403, "csrf_failed")
ACTORS: dict[str, Who] = {
    "anonymous": Who(lacking=NOBODY),
    "a customer": Who(browser=signed_in(is_staff=False), headers=csrf),
    "a customer with every right": Who(
        browser=signed_in(*SCOPES, is_staff=False), headers=csrf
    ),
    "staff that has left": Who(
        browser=signed_in(*SCOPES, is_active=False), headers=csrf, lacking=NOBODY
    ),
    "staff without a right": Who(browser=signed_in(), headers=csrf, rights=LOGIN),
    **{
        f"staff with {scope}": Who(
            browser=signed_in(scope), headers=csrf, rights=rights(scope) | LOGIN
        )
        for scope in SCOPES
    },
    "a superuser": Who(
        browser=signed_in(is_superuser=True), headers=csrf, rights=rights(*SCOPES) | LOGIN
    ),
    "a superuser without CSRF": Who(
        browser=signed_in(is_superuser=True), rights=rights(*SCOPES) | LOGIN, on_change=CSRF
    ),
    "a superuser from a foreign page": Who(
        browser=signed_in(is_superuser=True),
        headers=foreign,
        rights=rights(*SCOPES) | LOGIN,
        on_change=CSRF,
    ),
    "a superuser from another network": Who(
        browser=signed_in(is_superuser=True),
        headers=csrf,
        address=ELSEWHERE,
        always=(403, "forbidden"),
    ),
    **{
        f"a token with {scope}": Who(headers=bearing(f"{scope}-x"), rights=rights(scope))
        for scope in SCOPES
        if scope not in PEOPLE_ONLY
    },
    "a token with everything": Who(headers=bearing("all-x"), rights=EVERYTHING),
    "an expired token": Who(headers=bearing("expired-x"), always=NOBODY),
    "a revoked token": Who(headers=bearing("revoked-x"), always=NOBODY),
    "an unknown token": Who(headers=bearing("unknown-x"), always=NOBODY),
    "no token": Who(headers=lambda world: {"Authorization": "Basic eA=="}, always=NOBODY),
    "an unknown token of a superuser": Who(
        browser=signed_in(is_superuser=True),
        headers=lambda world: {**csrf(world), **bearing("unknown-x")(world)},
        always=NOBODY,
    ),
    "a token for another database": Who(
        headers=bearing("elsewhere-x"), rights=EVERYTHING, any_database=False
    ),
    "a token of another network": Who(headers=bearing("far-x"), always=(403, "forbidden")),
    "a token from another network": Who(
        headers=bearing("all-x"), address=ELSEWHERE, always=(403, "forbidden")
    ),
    "a permit for another plan": Who(
        headers=permit(), rights=rights("plan"), is_of_one=True
    ),
    "an expired permit": Who(
        headers=permit(lifetime=timedelta(microseconds=1)), always=NOBODY
    ),
    "a forged permit": Who(headers=bearing("mrp_e30~x"), always=NOBODY),
    "a good identity token": Who(
        headers=lambda world: bearing(ISSUER.token())(world), rights=rights("apply")
    ),
    "an expired identity token": Who(
        headers=lambda world: bearing(ISSUER.token(exp=1))(world), always=NOBODY
    ),
    "a stranger's identity token": Who(
        headers=lambda world: bearing(ISSUER.token(repository="eve/shop"))(world),
        always=NOBODY,
    ),
    "a forged identity token": Who(
        headers=lambda world: bearing(ISSUER.token()[:-8] + "AAAAAAAA")(world),
        always=NOBODY,
    ),
}


@pytest.fixture
def world(history, project, settings):
    """Return a world in which one migration is applied and one is pending."""
    oidc._caches.clear()
    reauthentication.attempts.forget()
    settings.MIGRATION_ROUTE = ROUTE
    project()
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE made_a (id integer)")
    MigrationRecorder(connection).record_applied("testapp", "0001_a")
    return World()


def test_the_matrix_has_every_call_of_the_document(capsys):
    """A new call cannot be forgotten, and the number of combinations is checked."""
    described = {
        f"{method} {path}"
        for path, methods in json.loads(document("x"))["paths"].items()
        for method in methods
    }
    assert {which.call for which in CASES} == described | {"get /openapi.json"}
    with capsys.disabled():
        cells = len(CASES) * (len(ACTORS) + 1)
        sys.stdout.write(
            f" {len(CASES)} calls by {len(ACTORS) + 1} actors = {cells} cells\n"
        )


@pytest.mark.parametrize("name", ACTORS)
def test_each_call_is_answered_as_the_actor_may_expect(world, name):
    """It is allowed or has the right code; nothing has changed, and a denial is
    recorded."""
    who = ACTORS[name]
    browser, headers = who.browser(), who.headers(world)
    before = world.rows()
    for which in CASES:
        check(world, who, which, browser, headers)
        assert world.rows() == before, which


def test_a_used_permit_reads_and_applies_nothing(world):
    """The error says that it was used, and by which run."""
    who = Who(headers=used_permit, rights=rights("plan"), is_of_one=True)
    browser, headers = who.browser(), who.headers(world)
    before = world.rows()
    for which in CASES:
        is_its_plan = which.effective == {"fingerprint": "plan"} and which.path == "/runs"
        expected = (403, "permit_used") if is_its_plan else who.refusal(which)
        if which.path == "/runs/{run}":
            continue  # here the run is of another database
        check(world, who, which, browser, headers, expected=expected)
        assert world.rows() == before, which


NOT_ASKED = object()


def check(
    world: World,
    who: Who,
    which: Case,
    browser: Client,
    headers: dict[str, str],
    expected: Any = NOT_ASKED,
) -> None:
    """Make the call, and compare the response with the expected one."""
    refusal = who.refusal(which) if expected is NOT_ASKED else expected
    if headers.get("Authorization", "").startswith("Bearer mrp_") and refusal is None:
        # Its runs are those of its own database; these are of another one. The ledger can
        # only be exported as a whole.
        kept_out = ("/runs/{run}", "/ledger/export")
        refusal = (403, "forbidden") if which.path.startswith(kept_out) else None
    audit.anonymous_denials.forget()
    last = Entry.objects.count()
    words: dict[str, Any] = {"headers": headers, "REMOTE_ADDR": who.address}
    if which.method == "post":
        body = world.body(which, denied=refusal is not None)
        words |= {"data": json.dumps(body), "content_type": "application/json"}
    address = world.address(which, denied=refusal is not None)
    answer = getattr(browser, which.method)(address, **words)
    told = [e for e in Entry.objects.filter(sequence__gt=last) if e.action == "denied"]
    if refusal is None:
        fine = {200, 404, 409, 503} if which.needs else {200, 503}
        assert answer.status_code in fine, (which, answer.content)
        assert told == [], which
        return
    code = answer.json().get("code")
    assert (answer.status_code, code) == refusal, (which, answer.content)
    assert len(told) == 1, which
    assert json.loads(told[0].facts)["code"] == code
    assert told[0].address == who.address
