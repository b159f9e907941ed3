"""Tests that secrets on every path of a run are in no row, message, page or response."""

from __future__ import annotations

import json
import re
from io import BytesIO
from zipfile import ZipFile

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client

from migration_route.core.enums import EventKind, RunState
from migration_route.core.events import EventType
from migration_route.execution.recovery.reaper import reap
from migration_route.ledger.queries import find_run, list_entries
from migration_route.models import Event
from migration_route.notifications.messages import (
    build_message,
    mail_text,
    slack_body,
)
from migration_route.presentation.schemas import to_json
from migration_route.services.apply import ApplyRequest, apply
from migration_route.services.control import cancel
from migration_route.services.evidence import bundle
from tests.execution.runs import plan_to
from tests.factories import an_actor, vendor

pytestmark = pytest.mark.slow

ROW = "row-value-of-ada"
PARAMETER = "value-of-a-parameter"

CODE = """
import os, subprocess, sys, time
from django.conf import settings
key = settings.SECRET_KEY
print("printed", key)
print("split", key[:9], sep=" ", end="")
print(key[9:])
sys.stderr.write("error " + key + chr(10))
os.write(1, ("raw " + key[:9]).encode())
time.sleep(0.3)
os.write(1, (key[9:] + chr(10)).encode())
os.write(2, ("long " + "x" * (9990 - 5) + key + chr(10)).encode())
subprocess.run(["echo", "program", "postgres://ada:" + key + "@db/x"], check=True)
print("-----BEGIN PRIVATE KEY-----\\n" + key[::-1] + "\\n-----END PRIVATE KEY-----")
schema_editor.execute("SELECT '" + key + "'")
schema_editor.execute("UPDATE people SET word = %s WHERE 1 = 0", ["PARAMETER"])
schema_editor.execute("SELECT 'x' -- " + "y" * 19_990 + key)
try:
    row = "row-value" + "-of-ada"  # not in the source that a traceback shows
    schema_editor.execute("INSERT INTO people VALUES (2, '" + row + "')")
except Exception as error:
    raise RuntimeError(f"{key}: it failed: {error}") from error
""".replace("PARAMETER", PARAMETER)


@pytest.fixture(autouse=True)
def _inline(project, history, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()
    history.write(
        "0001_a",
        "migrations.RunSQL('CREATE TABLE people (id integer, word varchar(40) UNIQUE)')",
        f"migrations.RunSQL([('INSERT INTO people VALUES (1, %s)', ['{ROW}'])])",
    )
    history.python("0002_b", CODE, body="atomic = False")


def run_of(*targets: str, reason: str):
    """Execute a plan, and return its run."""
    request = ApplyRequest(
        targets=targets, fingerprint=plan_to(*targets).fingerprint, reason=reason
    )
    return find_run(apply(request, an_actor()).id)


def rows() -> dict[str, str]:
    """Return the contents of this package's tables."""
    return {
        model.__name__: json.dumps(list(model._default_manager.values()), default=str)
        for model in apps.get_app_config("migration_route").get_models()
    }


def messages() -> dict[str, str]:
    """Return what webhooks, chats and email would send for every entry."""
    found = {}
    for entry in list_entries(before=None, limit=100):
        for edge in EventType:
            run = find_run(entry.run) if entry.run else None
            message = build_message(entry, edge, run, id_=entry.uid)
            found[f"{entry.sequence} {edge} JSON"] = to_json(message).decode()
            found[f"{entry.sequence} {edge} chat"] = slack_body(message).decode()
            found[f"{entry.sequence} {edge} mail"] = message.summary + mail_text(message)
    return found


def pages(run: str) -> dict[str, str]:
    """Return the pages and responses about a run, except its events."""
    browser = Client()
    browser.force_login(User.objects.create_superuser("root-of-tests"))
    calls = ("status", "runs", f"runs/{run}", "plan", "ledger", "ledger/export")
    addresses = ["", "runs/", "ledger/", f"runs/{run}/", "plan/"]
    addresses += [f"api/v1/{call}" for call in calls]
    found = {}
    for address in addresses:
        answer = browser.get(f"/migrations/{address}")
        assert answer.status_code in {200, 409}, (address, answer.status_code)
        found[address] = b"".join(answer).decode()
    return found


def events(run: str) -> str:
    """Return the response with the events of a run."""
    browser = Client()
    browser.force_login(User.objects.create_superuser("reader-of-events"))
    return b"".join(
        browser.get(f"/migrations/api/v1/runs/{run}/events?limit=1000")
    ).decode()


def evidence_of(run: str) -> str:
    """Return all files of the evidence of a run."""
    with ZipFile(BytesIO(bundle(run, an_actor()).content)) as archive:
        return "".join(archive.read(name).decode() for name in archive.namelist())


@pytest.mark.parametrize("with_detail", [True, False])
def test_planted_secrets_are_nowhere(settings, project, with_detail):
    """Neither the secret key of the project nor, except in the traceback, the values of
    rows."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "RECORD_ERROR_DETAIL": with_detail,
    }
    project()
    browser = Client()
    browser.force_login(User.objects.create_superuser("reader-of-plans"))
    for address in ("plan/?target=testapp", "api/v1/plan?target=testapp"):
        page = browser.get(f"/migrations/{address}").content.decode()
        text = re.sub(r"</?span[^>]*>", "", page)  # marks of keywords and names
        assert "INSERT INTO people VALUES (1, %s)" in text
        assert ROW not in page
        assert ROW not in text
    run = run_of("testapp", reason=f"a deploy, password={settings.SECRET_KEY}")
    assert run.state in {RunState.FAILED, RunState.PARTIAL}, run.error
    assert "it failed: " in run.error.message

    found = rows() | messages() | pages(run.id) | {"events": events(run.id)}
    found |= {"evidence": evidence_of(run.id)}
    reversed_key = settings.SECRET_KEY[::-1]
    for place, text in found.items():
        assert settings.SECRET_KEY not in text, place
        assert settings.SECRET_KEY[9:] not in text, place
        assert reversed_key not in text, place
        assert PARAMETER not in text, place
    for word in ("printed", "split", "error", "raw", "long", "program"):
        assert f'"{word} ' in found["Event"]  # the lines are there, without the key

    tracebacks = Event.objects.filter(run=run.id, kind=EventKind.ERROR)
    texts = "".join(tracebacks.values_list("facts", flat=True))
    says_values = vendor() != "sqlite"  # whose errors name the column only
    assert (ROW in texts) is (with_detail and says_values)
    statements = Event.objects.filter(kind=EventKind.STATEMENT, text__contains=ROW)
    assert statements.count() == 1  # a literal in the SQL itself, not a parameter
    shows_events = {"Event", "events", "evidence", f"runs/{run.id}/"}
    for place in set(found) - shows_events:
        assert ROW not in found[place], place
    reap(run)


def test_a_reason_is_masked_wherever_it_is_given(settings, history):
    """Also one that belongs to another verb."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "APPROVALS": {"required": 1},
    }
    run = run_of("testapp", reason="mine")
    cancel(
        run.id, an_actor(), reason=f"no: postgres://ada:swordfish@db, {settings.SECRET_KEY}"
    )
    found = rows() | messages() | pages(run.id) | {"evidence": evidence_of(run.id)}
    for place, text in found.items():
        assert "swordfish" not in text, place
        assert settings.SECRET_KEY not in text, place
