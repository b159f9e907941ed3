"""Tests of what the wire types accept and reject."""

from __future__ import annotations

import inspect
import json

import msgspec
import pytest

from migration_route.presentation import schemas

REQUESTS = [
    kind
    for _, kind in inspect.getmembers(schemas, inspect.isclass)
    if issubclass(kind, schemas.Request) and kind is not schemas.Request
]
ANSWERS = [
    kind
    for _, kind in inspect.getmembers(schemas, inspect.isclass)
    if issubclass(kind, schemas.Answer) and kind is not schemas.Answer
]


def create_run(**fields: object) -> schemas.CreateRun:
    """Return the body of `POST runs` as the API decodes it."""
    return msgspec.json.decode(json.dumps(fields), type=schemas.CreateRun)


def test_an_empty_body_is_the_default():
    """The database is `default`, the target everything, and there is no fingerprint."""
    assert create_run() == schemas.CreateRun(
        database="default", targets=[], fingerprint="", reason="", build=""
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"databse": "default"},
        {"database": ""},
        {"database": None},
        {"database": "a" * 201},
        {"database": "a\0b"},
        {"targets": "shop"},
        {"targets": [""]},
        {"targets": ["a" * 301]},
        {"targets": ["a"] * 101},
        {"targets": ["a\0"]},
        {"fingerprint": 5},
        {"fingerprint": "a" * 201},
        {"reason": "a" * 2001},
        {"reason": "\0"},
        {"fake": "yes"},
        {"fake": 1},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(fields):
    """A wrong type, a text that no column can store, a field with no meaning."""
    with pytest.raises(msgspec.ValidationError):
        create_run(**fields)


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.__name__)
def test_no_request_takes_an_unknown_field(kind):
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"surely_unknown": 1}', type=kind)


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.__name__)
def test_an_answer_may_grow(kind):
    """An old client decodes the response of a newer server."""
    assert not kind.__struct_config__.forbid_unknown_fields
    assert kind.__struct_config__.frozen


def test_an_answer_goes_there_and_back():
    answer = schemas.EventAnswer(
        number=1,
        at="2026-11-23T17:00:00.000000Z",
        kind="output",
        step=None,
        operation=None,
        duration_ms=None,
        text="größer",
        facts={"stream": "stdout"},
    )
    assert msgspec.json.decode(schemas.to_json(answer), type=schemas.EventAnswer) == answer
