"""Tests of the ledger export."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.test import Client

from migration_route.core.enums import Action
from migration_route.ledger import entries, verification
from migration_route.ledger.entries import Draft
from migration_route.ledger.hashchain import verify_export
from migration_route.models import Entry
from migration_route.presentation import schemas

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
