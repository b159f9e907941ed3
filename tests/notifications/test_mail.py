"""Tests of email notifications, which use the same outbox and the same retries."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.locmem import EmailBackend

from migration_route.core.enums import RunState
from migration_route.ledger import outbox, runs
from migration_route.ledger.queries import find_run
from migration_route.services.notifications import deliver_due
from tests.factories import a_new_run


class Failing(BaseEmailBackend):
    """A mail server that is down."""

    def send_messages(self, email_messages):
        raise ConnectionRefusedError(111, "the password is planted")


class Hanging(BaseEmailBackend):
    """A mail server that does not respond."""

    ends = threading.Event()

    def send_messages(self, email_messages):
        Hanging.ends.wait(30)
        return 0


def backend(settings, kind: type[BaseEmailBackend]) -> None:
    """Set the email backend of the project."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if hasattr(mail, "mailers"):  # Django 6.1
        settings.MAILERS = {"default": {"BACKEND": name}}
    else:
        settings.EMAIL_BACKEND = name


@pytest.fixture
def mailed(database, settings, monkeypatch):
    """Notify two users of ended runs."""
    mail.outbox = []
    backend(settings, EmailBackend)
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": "inline",
        "EMAIL": {
            "to": ["ada@example.com", "grace@example.com"],
            "from": "route@example.com",
            "events": ["run_ended"],
            "timeout": "1s",
        },
    }


def an_ended_run(**words: str) -> str:
    run, _ = runs.create_run(a_new_run(**words))
    runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED})
    return run.id


def test_an_end_is_mailed_with_the_run(mailed):
    run = an_ended_run(reason="a\nBcc: somebody@example.com")
    assert deliver_due() is None
    (letter,) = mail.outbox
    assert letter.to == ["ada@example.com", "grace@example.com"]
    assert letter.from_email == "route@example.com"
    assert letter.subject.startswith(f"[migrations] Run {run} on default has ended: failed")
    assert letter.recipients() == letter.to
    assert "testapp.0002_more" in letter.body
    assert letter.extra_headers["Migration-Route-Event-Id"] in letter.body
    head = find_run(run).head
    assert f"\nLedger head: {head}\n" in letter.body
    letter.message()


@pytest.mark.parametrize("kind", [Failing, Hanging])
def test_a_mail_server_that_is_down_is_tried_again(mailed, settings, caplog, kind):
    backend(settings, kind)
    an_ended_run()
    assert deliver_due() is not None
    assert [found.pending for found in outbox.backlogs(["mail"])] == [1]
    assert "planted" not in caplog.text
    Hanging.ends.set()
    backend(settings, EmailBackend)
    assert deliver_due(datetime.now(UTC) + timedelta(minutes=1)) is None
    assert len(mail.outbox) == 1
