"""Tests that every message arrives, in order, whatever the receiver does."""

from __future__ import annotations

import html
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from migration_route.conf import route_settings
from migration_route.core.enums import Action, RunState
from migration_route.ledger import outbox, runs
from migration_route.ledger.entries import Draft, write
from migration_route.ledger.spool import RunSpool, spool_dir
from migration_route.notifications import delivery, dispatcher
from migration_route.notifications.delivery import signature
from migration_route.services.notifications import deliver_due
from tests.factories import a_new_run, at_once, vendor
from tests.harness.receiver import Receiver, a_free_port
from tests.notifications.conftest import SECRET


def a_whole_run(database: str = "default") -> str:
    """Record a run that starts and fails; return its id."""
    run, _ = runs.create_run(a_new_run(database=database))
    for before, after in (("queued", "running"), ("running", "failed")):
        runs.move(run.id, to=RunState(after), expected={RunState(before)})
    return run.id


WHOLE = ["run_requested", "run_started", "run_ended"]


def later(**units: float) -> datetime:
    return datetime.now(UTC) + timedelta(**units)


def pending() -> int:
    names = [each.name for each in route_settings().recipients]
    return sum(found.pending for found in outbox.backlogs(names))


def deliver_all(*, step: float = 3600.0) -> int:
    """Simulate the delivery passes without waiting; return how many there were."""
    now, passes = datetime.now(UTC), 0
    while deliver_due(now) is not None:
        passes += 1
        assert passes < 40
        now += timedelta(seconds=step)
    return passes


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A pass after an hour is due whatever the delay was; requests still time out."""
    monkeypatch.setattr(dispatcher, "_MORE_THAN_AN_ATTEMPT", timedelta(seconds=5))


# --- what is sent ---------------------------------------------------------------------


def test_a_run_is_told_from_its_request_to_its_end(database, receiver, tell):
    tell({"url": receiver.url})
    run = a_whole_run()
    assert deliver_due() is None
    assert receiver.events() == WHOLE
    first, _, last = (each.message for each in receiver.received)
    assert first["run"]["id"] == run
    assert first["entry"]["action"] == "run_requested"
    assert first["entry"]["facts"]["reason"] == "a test"
    assert first["database"] == "default"
    assert "was requested (by deployer: a test)" in first["summary"]
    assert last["entry"]["facts"]["to"] == "failed"
    assert last["run"]["state"] == "failed"
    assert len({each.message["id"] for each in receiver.received}) == 3
    entry = last["entry"]
    assert last["ledger_head"] == f"{entry['sequence']}:{entry['digest']}"
    assert first["ledger_head"] is None


def test_each_request_is_signed_named_and_plain(database, receiver, tell):
    tell({"url": receiver.url})
    a_whole_run()
    deliver_due()
    for each in receiver.received:
        assert each.path == "/hook?key=in-the-address"
        assert each.headers["content-type"] == "application/json"
        assert each.headers["migration-route-event-id"] == each.message["id"]
        header = each.headers["migration-route-signature"]
        seconds = int(header.partition(",")[0].removeprefix("t="))
        assert abs(seconds - time.time()) < 60
        assert header == signature(each.body, secrets=[SECRET], seconds=seconds)


def test_a_chat_gets_one_line_that_calls_nobody(database, receiver, tell):
    tell({"url": receiver.url, "format": "slack"})
    runs.create_run(a_new_run(reason="because\n<!channel> & more"))
    deliver_due()
    (text,) = [each.message["text"] for each in receiver.received]
    assert "because &lt;\u200b!channel&gt; &amp; more" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "planted",
    [
        "@channel",
        "@everyone",
        "<!here>",
        "<@U024BE7LH>",
        "<@&1234>",
        "<https://evil.example|the bank>",
        "<users/all>",
        "~town-square",
        "#general",
        "[the bank](https://evil.example/)",
        "![](https://evil.example/pixel.png)",
        "https://evil.example/",
        "www.evil.example",
        "evil.example",
        "__all__",
        "```code```",
        ":tada:",
    ],
)
def test_a_chat_expands_nothing_of_what_a_reason_says(database, receiver, tell, planted):
    """No mention, link, image or formatting takes effect, and the text reads the same."""
    tell({"url": receiver.url, "format": "slack"})
    runs.create_run(a_new_run(reason=f"because {planted} said so"))
    deliver_due()
    (body,) = [each.message for each in receiver.received]
    assert planted not in body["text"]
    assert planted in html.unescape(body["text"]).replace("\u200b", "")
    assert planted not in html.unescape(body["text"])
    assert body["allowed_mentions"] == {"parse": []}  # Discord
    assert (body["mrkdwn"], body["link_names"], body["unfurl_links"]) == (
        False,
        False,
        False,
    )


def test_only_what_was_asked_for_is_told(database, receiver, tell):
    tell({"url": receiver.url, "events": ["run_ended"], "databases": ["other"]})
    a_whole_run()
    run = a_whole_run("other")
    assert deliver_due() is None
    assert receiver.events() == receiver.events(run) == ["run_ended"]
    assert pending() == 0


def test_nothing_is_told_twice(database, receiver, tell):
    tell({"url": receiver.url})
    a_whole_run()
    for _ in range(3):
        deliver_due()
    assert receiver.events() == WHOLE


def test_who_is_new_hears_of_the_last_hour_alone(database, receiver, tell):
    old = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    write(Draft(action=Action.DENIED, at=old), patience=1)
    tell({"url": receiver.url})
    a_whole_run()
    deliver_due()
    assert receiver.events() == WHOLE


def test_without_a_ledger_there_is_nothing_to_tell(empty_database, receiver, tell):
    tell({"url": receiver.url})
    assert deliver_due() is not None
    assert receiver.events() == []


# --- misbehaving receivers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (500, "HTTP 500"),
        (503, "HTTP 503"),
        (404, "HTTP 404"),
        ("redirect", "HTTP 307"),
        ("close", "BadStatusLine"),
        ("garbage", "BadStatusLine"),
        ("hang", "TimeoutError"),
        ("drip", "TimeoutError"),
    ],
)
def test_a_bad_answer_is_an_attempt_and_the_next_one_arrives(
    database, tell, caplog, how, error
):
    """Redirects are not followed. The order of the run is kept. The log contains neither
    the URL nor the secret."""
    with Receiver(lambda count: how if count == 1 else 200) as receiver:
        tell({"url": receiver.url, "timeout": "1s"})
        a_whole_run()
        began = time.monotonic()
        due = deliver_due()
        assert time.monotonic() - began < 10
        assert due is not None
        assert due > datetime.now(UTC) - timedelta(seconds=1)
        assert receiver.events() == ["run_requested"]
        deliver_all()
        assert receiver.events() == ["run_requested", *WHOLE]
        ids = [each.message["id"] for each in receiver.received]
        assert ids[0] == ids[1]
        assert not any(
            "GET" in each.path or "gone" in each.path for each in receiver.received
        )
    assert error in caplog.text
    assert "in-the-address" not in caplog.text
    assert SECRET not in caplog.text


def test_who_is_down_gets_everything_when_it_is_up(database, tell):
    port = a_free_port()
    tell({"url": f"http://127.0.0.1:{port}/"})
    first, second = a_whole_run(), a_whole_run("other")
    for minutes in range(5):
        assert deliver_due(later(minutes=20 * minutes)) is not None
    assert pending() == 6
    with Receiver() as receiver:
        tell({"url": receiver.url, "name": route_settings().webhooks[0].name})
        deliver_all()
        assert receiver.events(first) == receiver.events(second) == WHOLE
    assert pending() == 0


def test_who_is_down_is_tried_once_in_a_pass(database, tell):
    """However many messages wait: the delay belongs to the recipient, and increases."""
    with Receiver(lambda _: 500) as receiver:
        tell({"url": receiver.url})
        for _ in range(6):
            a_whole_run()
        now, pauses = datetime.now(UTC), []
        for count in range(1, 6):
            due = deliver_due(now)
            assert len(receiver.received) == count
            assert due is not None
            pauses.append((due - datetime.now(UTC)).total_seconds())
            now = later(hours=count)
    assert 0.5 < pauses[0] < 1.5
    assert 10 < pauses[-1] < 22


def test_a_message_that_is_refused_does_not_keep_other_runs_back(database, tell):
    refused: set[str] = set()
    with Receiver() as receiver:
        receiver.behaviour = lambda _: (
            400
            if (receiver.received[-1].message["run"] or {}).get("id") in refused
            else 200
        )
        tell({"url": receiver.url})
        first, second = a_whole_run(), a_whole_run("other")
        refused.add(first)
        due = deliver_due()
        assert receiver.events(first) == ["run_requested"]
        assert receiver.events(second) == WHOLE
        assert due is not None
        refused.clear()
        deliver_all()
        assert receiver.events(first) == ["run_requested", *WHOLE]


def test_a_wish_to_be_left_in_peace_is_heeded_within_reason():
    hour = timedelta(hours=1).total_seconds()
    asked = delivery.retry_delay(1, timedelta(minutes=2)).total_seconds()
    assert 120 <= asked <= 144
    assert delivery.retry_delay(1, timedelta(days=30)).total_seconds() <= hour * 1.2
    for count in range(1, 200):
        assert delivery.retry_delay(count, None) <= timedelta(minutes=15) * 1.3


def test_what_never_arrives_is_given_up_and_counted(database, tell):
    with Receiver(lambda _: 500) as receiver:
        tell({"url": receiver.url, "give_up": "1ms"})
        a_whole_run()
        deliver_all()
        assert receiver.events() == WHOLE
    (found,) = outbox.backlogs([route_settings().webhooks[0].name])
    assert (found.pending, found.given_up) == (0, 3)


def test_one_that_hangs_does_not_keep_the_others_from_hearing(database, receiver, tell):
    with Receiver(lambda _: "hang") as bad:
        tell({"url": bad.url, "timeout": "300ms"}, {"url": receiver.url})
        a_whole_run()
        deliver_due()
    assert receiver.events() == WHOLE


# --- concurrent deliverers ------------------------------------------------------------


def test_of_two_at_once_each_message_comes_once_and_in_order(database, tell):
    """One process serves the recipient, the others skip it."""
    with Receiver(lambda _: 200) as receiver:
        tell({"url": receiver.url})
        found = [a_whole_run("default" if count % 2 else "other") for count in range(6)]
        deadline = time.monotonic() + 30

        def until_done(_: int) -> None:
            while pending() or len(receiver.received) < 18:
                deliver_due()
                assert time.monotonic() < deadline

        assert at_once(4, until_done) == [None] * 4
        assert set(Counter(each.message["id"] for each in receiver.received).values()) == {
            1
        }
        for run in found:
            assert receiver.events(run) == WHOLE


def test_who_is_gone_is_followed_when_its_time_is_over(database, receiver, tell):
    """A killed deliverer keeps its lease until that expires; then another one continues."""
    tell({"url": receiver.url})
    name = route_settings().webhooks[0].name
    a_whole_run()
    now = datetime.now(UTC)
    assert outbox.acquire_lease(name, by="killed", now=now, lasting=timedelta(seconds=7))
    deliver_due(now + timedelta(seconds=6))
    assert receiver.events() == []
    deliver_due(now + timedelta(seconds=8))
    assert receiver.events() == WHOLE


def test_who_lost_its_lease_tells_nothing_more(database, tell):
    """It took too long: another one has taken over, and sends the rest."""
    taken = threading.Event()

    def behaviour(count: int) -> int:
        if count == 1:
            name = route_settings().webhooks[0].name
            assert outbox.acquire_lease(
                name, by="another", now=later(hours=1), lasting=timedelta(hours=1)
            )
            connections.close_all()  # this thread is the server's
            taken.set()
        return 200

    with Receiver(behaviour) as receiver:
        tell({"url": receiver.url})
        a_whole_run()
        deliver_due()
        assert taken.is_set()
        assert receiver.events() == ["run_requested"]


# --- during a migration ---------------------------------------------------------------


@pytest.mark.skipif(vendor() != "sqlite", reason="only a file is shared with a migration")
def test_a_migration_in_the_same_file_is_not_disturbed(database, receiver, tell):
    tell({"url": receiver.url})
    run = a_whole_run()
    folder = spool_dir("default")
    assert folder is not None
    file = RunSpool(folder, run)
    file.beat()
    assert deliver_due() is not None
    assert receiver.events() == []
    file.remove(at_the_end=True)
    deliver_due()
    assert receiver.events() == WHOLE


def test_an_entry_that_was_tampered_with_keeps_nothing_back(database, receiver, tell):
    from migration_route.models import Entry

    tell({"url": receiver.url})
    run = a_whole_run()
    Entry.objects.filter(run=run, action="run_requested").update(actor_kind="x", facts="[1")
    Entry.objects.filter(run=run).exclude(action="run_requested").update(
        facts='{"from": "running", "to": "failed", "error": 7}'
    )
    deliver_due()
    assert receiver.events() == ["run_requested"]
    run = a_whole_run("other")
    deliver_due(later(minutes=1))
    assert receiver.events(run) == WHOLE
