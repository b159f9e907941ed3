"""Tests that a permit is valid for one run of one plan only."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client

from migration_route.access import permits
from migration_route.access.actors import shell_actor
from migration_route.access.authentication import authenticate_permit
from migration_route.core.enums import ActorKind, RunState
from migration_route.ledger import runs as ledger_runs
from migration_route.ledger.queries import list_entries, list_runs
from migration_route.planning.plan import PlanRequest
from migration_route.services import permits as services_permits
from migration_route.services.plans import plain_plan
from tests.factories import a_new_run, at_once, tables

API, PAGE = "/migrations/api/v1/", "/migrations/permit/"


@pytest.fixture(autouse=True)
def _inline(history, project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


@pytest.fixture
def plan(history):
    """Return a plan of one step that creates a table."""
    history.table("0001_a", "made_a")
    return plain_plan(PlanRequest())


def permit_for(plan, **words):
    """Return a permit as text."""
    request = services_permits.PermitRequest(
        plan=PlanRequest(targets=words.pop("targets", ())),
        fingerprint=plan.fingerprint,
        **words,
    )
    return services_permits.issue(request, shell_actor())[1]


def bearer(text, **words):
    """Return the headers with this permit."""
    return {"headers": {"Authorization": f"Bearer {text}", **words}}


def post_run(text, plan, **body):
    """POST a run to the API."""
    words = {"database": plan.database, "fingerprint": plan.fingerprint, **body}
    headers = bearer(text, Prefer="wait=30")
    return Client().post(API + "runs", json.dumps(words), "application/json", **headers)


def denials():
    """Return the codes of the recorded denials."""
    found = list_entries(before=None, limit=200)
    return [e.facts["code"] for e in found if e.action == "denied"]


def test_a_permit_carries_out_its_plan_once(plan):
    """The second use names the run of the first one, and is recorded on the ledger."""
    text = permit_for(plan)
    first = post_run(text, plan)
    assert first.status_code == 200, first.content
    run = first.json()
    issuer = shell_actor().name
    assert run["state"] == "succeeded"
    assert run["requested_by"] == {"kind": "permit", "name": issuer}
    assert run["permit"] == permits.read_permit(text).id
    second = post_run(text, plan)
    assert (second.status_code, second.json()["code"]) == (403, "permit_used")
    assert second.json()["run"] == run["id"]
    assert denials() == ["permit_used"]
    assert len(list_runs(database=None, before=None, limit=9)) == 1


def test_whoever_has_a_permit_may_read_its_database_and_no_other(plan):
    """To read the plan and the run."""
    text = permit_for(plan)
    client = Client()
    assert client.get(API + "plan", **bearer(text)).status_code == 200
    status = client.get(API + "status", **bearer(text)).json()
    assert [found["database"] for found in status["databases"]] == ["default"]
    other = client.get(API + "plan?database=other", **bearer(text))
    assert (other.status_code, other.json()["code"]) == (403, "forbidden")
    run = post_run(text, plan).json()["id"]
    for verb in ("cancel", "pause", "resume", "resolve", "terminate-blockers"):
        answer = client.post(
            f"{API}runs/{run}/{verb}", "{}", "application/json", **bearer(text)
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), verb


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "0" * 12 + "-" + "0" * 8 + "-" + "0" * 64},
        {"fingerprint": ""},
        {"fake": True},
        {"rebuild_invalid_indexes": True},
        {"database": "other"},
    ],
)
def test_a_permit_is_for_no_other_plan(plan, change):
    """Nothing is applied, and the permit stays valid."""
    text = permit_for(plan)
    answer = post_run(text, plan, **change)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "made_a" not in tables()
    assert post_run(text, plan).json()["state"] == "succeeded"


def test_a_permit_does_not_outlive_its_plan(plan, history):
    """A migration deployed since is in the plan, and not in the permit."""
    text = permit_for(plan)
    history.table("0002_b", "made_b")
    answer = post_run(text, plan)
    assert answer.status_code == 409
    assert answer.json()["code"] in {"plan_changed", "stale_code"}
    assert not {"made_a", "made_b"} & tables()


def test_what_has_changed_is_no_permit_of_ours(plan, settings):
    """Nor is one that another project has signed, or one that has expired."""
    text = permit_for(plan)
    for other in (text[:-3] + "AAA", text.replace("~", ""), "mrp_", "mrp_~", "mrp_" * 2000):
        actor = authenticate_permit(other, address="")
        assert actor.access_error is not None
        assert (actor.kind, actor.name) == (ActorKind.PERMIT, "")
    settings.SECRET_KEY = "another"
    assert authenticate_permit(text, address="").access_error is not None
    settings.SECRET_KEY_FALLBACKS = ["only-for-the-tests-of-the-route"]
    assert authenticate_permit(text, address="").access_error is None


def test_a_permit_expires(plan, monkeypatch):
    """The error still names its issuer."""
    text = permit_for(plan, lifetime=timedelta(milliseconds=1))
    answer = post_run(text, plan)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert "expired" in answer.json()["detail"]
    assert "made_a" not in tables()
    assert authenticate_permit(text, address="").name == shell_actor().name


def test_it_stands_for_the_approval_of_people(plan, settings, project):
    """Whatever the policy requires otherwise; the run names the permit."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "APPROVALS": {"required": 3}}
    project()
    text = permit_for(plan)
    run = post_run(text, plan).json()
    assert (run["state"], run["approval"]) == ("succeeded", None)
    assert run["permit"] == permits.read_permit(text).id


def test_it_does_not_stand_for_what_stopped_midway(plan):
    """The database is partially migrated: the permit is refused, and valid after that is
    resolved."""
    stopped, _ = ledger_runs.create_run(a_new_run(database="default"))
    ledger_runs.move(stopped.id, to=RunState.PARTIAL, expected={RunState.QUEUED})
    text = permit_for(plan)
    refused = post_run(text, plan)
    assert (refused.status_code, refused.json()["code"]) == (409, "needs_resolution")
    assert refused.json()["run"] == stopped.id
    assert "made_a" not in tables()
    ledger_runs.move(stopped.id, to=RunState.RESOLVED, expected={RunState.PARTIAL})
    assert post_run(text, plan).json()["state"] == "succeeded"


def test_permits_can_be_switched_off(plan, settings):
    """Then none is issued, and none is valid."""
    text = permit_for(plan)
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "PERMITS": False}
    assert authenticate_permit(text, address="").access_error is not None
    with pytest.raises(Exception, match="disabled"):
        permit_for(plan)


def test_of_many_at_once_one_uses_it(plan):
    """The unique column decides, not a previous read."""
    text = permit_for(plan)
    answers = at_once(4, lambda _: post_run(text, plan))
    codes = sorted(answer.status_code for answer in answers)
    assert len([code for code in codes if code < 300]) == 1
    refused = {a.json()["code"] for a in answers if a.status_code >= 300}
    assert refused <= {"permit_used", "active_run"}
    runs = list_runs(database=None, before=None, limit=9)
    assert [run.permit for run in runs] == [permits.read_permit(text).id]


def test_the_same_key_gives_the_same_run(plan):
    """A request that is repeated because its response was lost is not a second use."""
    text = permit_for(plan)
    body = json.dumps({"fingerprint": plan.fingerprint})
    headers = bearer(text, **{"Prefer": "wait=30", "Idempotency-Key": "one"})
    answers = [
        Client().post(API + "runs", body, "application/json", **headers) for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["id"] == answers[1].json()["id"]


def test_the_page_needs_nobody_to_be_signed_in(plan):
    """Form, plan, run: each with the permit alone, and only by POST."""
    text = permit_for(plan, reason="the login is behind")
    client = Client(enforce_csrf_checks=True)
    assert b"textarea" in client.get(PAGE).content
    assert client.get(PAGE, {"permit": text, "do": "apply"}).status_code == 200
    assert client.put(PAGE).status_code == 405
    shown = client.post(PAGE, {"permit": text})
    assert shown.status_code == 200
    assert b"Apply 1 migration" in shown.content
    assert b"the login is behind" in shown.content
    assert "made_a" not in tables()
    done = client.post(PAGE, {"permit": text, "do": "apply"})
    assert done.status_code == 200, done.content
    assert b"1 migration applied and verified" in done.content
    assert "made_a" in tables()
    again = client.post(PAGE, {"permit": text})
    assert b"1 migration applied and verified" in again.content
    refused = client.post(PAGE, {"permit": text, "do": "apply"})
    assert (refused.status_code, b"permit_used" in refused.content) == (403, True)
    assert client.post(PAGE, {"permit": "mrp_no"}).status_code == 401
    assert client.post(PAGE).status_code == 401


def test_the_smallest_use_takes_a_permit(plan):
    """As a field of its form, or as a token."""
    text = permit_for(plan)
    client = Client(enforce_csrf_checks=True)
    answer = client.post("/perform/", {"permit": text})
    assert (answer.status_code, answer.json()["state"]) == (200, "succeeded")
    assert client.post("/perform/", {"permit": text}).status_code == 403
    assert client.post("/perform/", **bearer(text)).json()["code"] == "permit_used"


def test_the_command_prints_a_permit(plan, capsys):
    """In JSON for scripts; another fingerprint is another plan."""
    call_command("migration_route", "permit", plan.fingerprint, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["permit"].startswith("mrp_")
    assert found["issued_by"] == shell_actor().name
    assert post_run(found["permit"], plan).json()["state"] == "succeeded"
    with pytest.raises(CommandError) as refused:
        call_command("migration_route", "permit", plan.fingerprint)
    assert refused.value.returncode == 5
    for lifetime in ("25h", "0s", "soon"):
        with pytest.raises(CommandError) as wrong:
            call_command(
                "migration_route", "permit", plan.fingerprint, "--lifetime", lifetime
            )
        assert wrong.value.returncode == 2


def test_issue_and_use_are_on_the_ledger(plan):
    """The run names the permit, and so does the entry of its issue."""
    post_run(permit_for(plan), plan)  # installs the ledger
    found = list_entries(before=None, limit=99)
    run = list_runs(database=None, before=None, limit=1)[0]
    requested = next(e for e in found if e.action == "run_requested")
    assert requested.facts["permit"] == run.permit
    assert requested.facts["credential"] == {"id": run.permit}
    issued = [e.facts["permit"] for e in found if e.action == "permit_issued"]
    assert issued in ([run.permit], [])  # [] without a ledger
