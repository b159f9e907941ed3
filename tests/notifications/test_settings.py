"""Tests of reading WEBHOOKS and EMAIL, without repeating secrets."""

from __future__ import annotations

from datetime import timedelta

import pytest

from migration_route.conf import read_settings
from migration_route.conf.notifications import WebhookFormat
from migration_route.core.events import DEFAULT_EVENT_TYPES, EventType
from migration_route.core.redaction import secrets_of_settings

SECRET = "planted-secret-0123456789"
URL = "https://hooks.example.com/services/planted-path"


def webhook(**words: object):
    return read_settings({"WEBHOOKS": [{"url": URL, **words}]})


def test_the_least_is_an_address():
    (found,) = webhook().webhooks
    assert (found.url, found.secrets, found.format) == (URL, (), WebhookFormat.JSON)
    assert (found.events, found.databases) == (DEFAULT_EVENT_TYPES, None)
    assert found.timeout == timedelta(seconds=10)
    assert found.give_up == timedelta(hours=24)
    assert found.name.startswith("hooks.example.com-")


def test_everything_is_read():
    (found,) = webhook(
        name="team",
        secrets=[SECRET, f"old-{SECRET}"],
        events=["run_ended"],
        databases=["default"],
        format="slack",
        timeout="3s",
        give_up="2h",
    ).webhooks
    assert found.name == "team"
    assert found.secrets == (SECRET, f"old-{SECRET}")
    assert found.events == {EventType.RUN_ENDED}
    assert found.databases == {"default"}
    assert found.format is WebhookFormat.SLACK
    assert (found.timeout, found.give_up) == (timedelta(seconds=3), timedelta(hours=2))
    assert webhook(events="*").webhooks[0].events == set(EventType)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ({"url": None}, "'url' must be a string"),
        ({"url": "http://planted.example.com/"}, '"insecure": True'),
        ({"url": "ftp://planted.example.com/"}, "must start with https://"),
        ({"url": "https:///planted"}, "must start with https://"),
        ({"url": "https://planted:planted@example.com/"}, "must not contain credentials"),
        ({"url": "https://example.com:planted/"}, "is not a valid URL"),
        ({"url": "https://example.com/planted\r\nHost: x"}, "printable"),
        ({"secret": "planted"}, "at least 16 characters"),
        ({"secret": 17}, "at least 16 characters"),
        ({"secret": SECRET, "secrets": [SECRET]}, "cannot both be set"),
        ({"secrets": SECRET}, "at least 16 characters"),
        ({"events": []}, "'events' must be"),
        ({"events": ["run_flew"]}, "'events' must be"),
        ({"databases": "default"}, "list of aliases"),
        ({"format": "xml"}, "json or slack"),
        ({"timeout": "1h"}, "at most '60s'"),
        ({"timeout": "soon"}, "'timeout' must be a duration"),
        ({"give_up": 3}, "'give_up' must be a duration"),
        ({"insecure": "yes"}, "True or False"),
        ({"name": "a" * 61}, "1 to 60"),
        ({"colour": 1}, "unknown keys ['colour']"),
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(words, problem):
    found = webhook(**words)
    assert found.webhooks == ()
    (text,) = found.problems
    assert text.startswith("WEBHOOKS[0]: ")
    assert problem in text
    assert "planted" not in text


def test_two_of_one_name_share_no_outbox():
    found = read_settings({"WEBHOOKS": [{"url": URL}, {"url": URL}]})
    assert len(found.webhooks) == 1
    assert "WEBHOOKS[1]: 'name' must be unique" in found.problems[0]


def test_no_repr_shows_what_lets_somebody_post(settings):
    found = webhook(secret=SECRET)
    assert "planted" not in repr(found)
    settings.MIGRATION_ROUTE = {"WEBHOOKS": [{"url": URL, "secret": SECRET}]}
    assert {SECRET, URL} <= secrets_of_settings()


@pytest.mark.parametrize(
    "value", [{"to": "ada@example.com"}, [{"to": ["ada@example.com"]}]]
)
def test_mail_is_a_dict_or_several(value):
    found = read_settings({"EMAIL": value})
    assert found.problems == ()
    (mail,) = found.email
    assert (mail.to, mail.sender, mail.name) == (("ada@example.com",), None, "mail")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("ada@example.com", "EMAIL must be a list"),
        ([3], "EMAIL[0]: must be a dict"),
        ({}, "'to' must be a list"),
        ({"to": []}, "'to' must be a list"),
        ({"to": ["ada"]}, "'to' must be a list"),
        ({"to": "a@b", "from": "c"}, "'from' must be"),
        ({"to": "a@b\nBcc: c@d"}, "'to' must be a list"),
        ({"to": "a@b", "subject_prefix": "a\nb"}, "a one-line string"),
        ({"to": "a@b", "url": "x"}, "unknown keys ['url']"),
    ],
)
def test_what_is_wrong_with_mail_is_said(value, problem):
    found = read_settings({"EMAIL": value})
    assert found.email == ()
    assert problem in found.problems[0]
