"""Tests of the ledger export, and of the evidence of a run as a file."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.test import Client

from migration_route.core.enums import Action, RunState
from migration_route.ledger import entries, runs, verification
from migration_route.ledger.entries import Draft
from migration_route.ledger.evidence import verify_bundle
from migration_route.ledger.hashchain import verify_export
from migration_route.models import Entry
from migration_route.presentation import schemas
from tests.factories import a_new_run

pytestmark = pytest.mark.usefixtures("database")

URL = "/migrations/api/v1/ledger/export"


def export(who: str = "reader", query: str = "", method: str = "get"):
    """Call the export."""
    headers = {"Authorization": f"Bearer {who}-secret"}
    client = Client(raise_request_exception=False)
    return getattr(client, method)(URL + query, headers=headers)


def write(count: int) -> None:
    """Add that many entries to the ledger."""
    drafts = (Draft(action=Action.DENIED, facts={"n": n}) for n in range(count))
    entries.write(*drafts, patience=1)


@pytest.fixture
def _small_batches(monkeypatch):
    monkeypatch.setattr(verification, "_BATCH", 2)


@pytest.mark.usefixtures("_small_batches")
def test_every_line_comes_as_it_is_stored():
    """In order, each decodable, and the file alone can be verified."""
    write(5)
    answer = export()
    assert answer["Content-Type"] == "application/jsonl"
    assert answer["Migration-Route-Build"]
    pieces = list(answer.streaming_content)
    assert [piece.count(b"\n") for piece in pieces] == [2, 2, 1]
    lines = b"".join(pieces).splitlines()
    assert verify_export(lines).entries == 5
    read = [msgspec.json.decode(line, type=schemas.ExportedEntry) for line in lines]
    assert [entry.facts["n"] for entry in read] == list(range(5))
    assert {entry.uid for entry in read} == set(Entry.objects.values_list("uid", flat=True))


@pytest.mark.usefixtures("_small_batches")
def test_an_export_goes_on_behind_a_number():
    """An interrupted export can be resumed."""
    write(4)
    lines = export(query="?after=3").getvalue().splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == [4]
    assert export(query="?after=4").getvalue() == b""
    assert export(query="?after=x").status_code == 400
    assert export(query="?before=1").status_code == 400


def test_a_changed_line_is_exported_as_it_is_found():
    """The file contains the damage, and its verification reports it."""
    write(2)
    Entry.objects.filter(sequence=2).update(facts="not JSON")
    lines = export().getvalue().splitlines()
    assert json.loads(lines[1])["facts"] == {"unreadable": "not JSON"}
    broken = verify_export(lines).broken
    assert broken is not None
    assert broken.sequence == 2


def test_only_who_may_read_everything_gets_everything(settings):
    """A part could not be verified."""
    tokens = [
        {**token, "databases": ["other"]} for token in settings.MIGRATION_ROUTE["TOKENS"]
    ]
    assert Client().get(URL).status_code == 401
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "TOKENS": tokens}
    answer = export()
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "contains the whole ledger" in answer.json()["detail"]


def test_a_head_reads_nothing():
    """Its headers are those of the export."""
    answer = export(method="head")
    assert (answer.status_code, answer.getvalue()) == (200, b"")
    assert answer["Content-Type"] == "application/jsonl"


@pytest.mark.usefixtures("_small_batches")
def test_under_asgi_it_comes_in_pieces_too():
    """The ledger is not collected before the first byte is sent."""
    write(5)
    scope = {
        "type": "http",
        "method": "GET",
        "path": URL,
        "raw_path": URL.encode(),
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer reader-secret"), (b"host", b"testserver")],
    }

    async def pieces() -> list[bytes]:
        handler = ApplicationCommunicator(ASGIHandler(), scope)
        await handler.send_input({"type": "http.request"})
        assert (await handler.receive_output(20))["status"] == 200
        found = []
        while (message := await handler.receive_output(20)).get("more_body"):
            found.append(message["body"])
        await handler.wait(20)
        return found

    assert [piece.count(b"\n") for piece in asyncio.run(pieces())] == [2, 2, 1]


# --- the evidence of a run --------------------------------------------------------------


def evidence_of(run: str, who: str = "reader", method: str = "get"):
    """Call for the evidence of a run."""
    address = f"/migrations/api/v1/runs/{run}/evidence"
    headers = {"Authorization": f"Bearer {who}-secret"}
    return getattr(Client(raise_request_exception=False), method)(address, headers=headers)


def an_ended_run() -> str:
    run, _ = runs.create_run(a_new_run())
    return runs.move(run.id, to=RunState.FAILED, expected={run.state}).id


def test_the_evidence_is_a_file_to_save():
    """Verified by the keys of the settings; a HEAD has the same headers."""
    run = an_ended_run()
    answer = evidence_of(run)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    assert answer["Content-Disposition"] == f'attachment; filename="evidence-{run}.zip"'
    assert int(answer["Content-Length"]) == len(answer.content)
    assert "no-store" in answer["Cache-Control"]
    found = verify_bundle(answer.content, [settings.SECRET_KEY])
    assert (found.problem, found.signature, found.entries) == ("", "valid", 2)
    head = evidence_of(run, method="head")
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Type"] == "application/zip"


def test_evidence_that_is_not_there_is_a_problem():
    """JSON, like any other error."""
    answer = evidence_of("f" * 32)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_run")
    assert evidence_of("x").status_code == 400
    run = an_ended_run()
    assert evidence_of(run, who="nobody").status_code == 401
    assert evidence_of(run, method="post").status_code == 405
    Entry.objects.all().delete()
    answer = evidence_of(run)
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


def get(path: str):
    headers = {"Authorization": "Bearer reader-secret"}
    return Client().get(f"/migrations/api/v1/{path}", headers=headers)


def test_a_run_that_has_ended_names_the_head_of_the_ledger():
    """Its last entry; not while it is active."""
    run, _ = runs.create_run(a_new_run())
    assert get(f"runs/{run.id}").json()["ledger_head"] is None
    runs.move(run.id, to=RunState.FAILED, expected={run.state})
    last = f"2:{Entry.objects.get(sequence=2).digest}"
    write(1)
    assert get(f"runs/{run.id}").json()["ledger_head"] == last
    assert get("runs").json()["runs"][0]["ledger_head"] == last


def test_a_head_is_looked_up_in_the_ledger():
    """A missing entry is a broken ledger, and a head of another form an error."""
    write(3)
    heads = [f"{row.sequence}:{row.digest}" for row in Entry.objects.order_by("sequence")]
    found = get(f"ledger/verify?head={heads[1]}").json()
    assert (found["intact"], found["ledger_head"]) == (True, heads[2])
    Entry.objects.filter(sequence=3).delete()
    assert get("ledger/verify").json()["intact"] is True
    found = get(f"ledger/verify?head={heads[2]}").json()
    assert (found["intact"], found["broken"], found["ledger_head"]) == (False, 3, None)
    assert "cut off" in found["message"]
    answer = get("ledger/verify?head=3")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "NUMBER:HASH" in answer.json()["hint"]
