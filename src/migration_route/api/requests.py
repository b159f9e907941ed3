"""Parses requests: JSON bodies, query parameters and headers.

Invalid input raises `InvalidRequest`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, UnreadablePostError
from msgspec import Meta, Struct

from migration_route.core.enums import Mode, Phase
from migration_route.core.errors import InvalidRequest
from migration_route.presentation import schemas

LARGEST_BODY = 64 * 1024
_READ_PAST = 4 * 1024 * 1024
LONGEST_KEY = 200
_MOST_DIGITS = 18
_LARGEST_NUMBER = 2**63 - 1
_LONGEST_VALUE = 300  # as for the name of a target in a body
_MOST_VALUES = 100  # of one parameter, as for the targets in a body

Body = TypeVar("Body", bound=schemas.Request)


class Query(Struct, frozen=True, kw_only=True):
    """A query string: one field for each parameter, and none here."""


Parameters = TypeVar("Parameters", bound=Query)

_Database = Annotated[str, Meta(description="The alias of the database.")]
_Targets = Annotated[
    list[str],
    Meta(description="app, app.name or app.zero; can be repeated; without it, everything."),
]
_Phase = Annotated[
    Phase | None,
    Meta(
        description="Include only the steps of this deploy phase; `any` or no value: all "
        "steps."
    ),
]
_Limit = Annotated[int, Meta(ge=1, le=200, description="Maximum number of items.")]
_After = Annotated[int, Meta(ge=0, description="Return only what follows this number.")]
_CURSOR = "The cursor `next` of the previous page."


class HealthQuery(Query, frozen=True, kw_only=True):
    """The plan to check the health signals for."""

    database: _Database = "default"
    target: _Targets = []
    phase: _Phase = None


class PlanQuery(Query, frozen=True, kw_only=True):
    """The plan to make, and how much of it to include."""

    database: _Database = "default"
    target: _Targets = []
    mode: Annotated[Mode, Meta(description="How to carry out the steps.")] = Mode.APPLY
    phase: _Phase = None
    details: Annotated[
        Annotated[int, Meta(ge=0, le=100_000)] | Literal["none"],
        Meta(
            description="Number of steps after which SQL is included (`details_next`), or "
            "none."
        ),
    ] = 0


class PageQuery(Query, frozen=True, kw_only=True):
    """One page of runs or rehearsals."""

    database: Annotated[str | None, Meta(description="List only this database.")] = None
    before: Annotated[str | None, Meta(description=_CURSOR)] = None
    limit: _Limit = 20


class EventsQuery(Query, frozen=True, kw_only=True):
    """The events to return."""

    after: _After = 0
    limit: Annotated[int, Meta(ge=1, le=500, description="Maximum number of events.")] = 500


class EntriesQuery(Query, frozen=True, kw_only=True):
    """One page of the ledger."""

    before: Annotated[
        Annotated[int, Meta(ge=1, le=_LARGEST_NUMBER)] | None, Meta(description=_CURSOR)
    ] = None
    limit: _Limit = 20


class ExportQuery(Query, frozen=True, kw_only=True):
    """The entries to export."""

    after: _After = 0


class VerifyQuery(Query, frozen=True, kw_only=True):
    """What the ledger must still contain."""

    head: Annotated[
        str | None,
        Meta(
            description="An earlier `ledger_head`, NUMBER:HASH: also verify that this "
            "entry exists with this digest."
        ),
    ] = None


class TooLarge(InvalidRequest):
    """The request body is too large."""

    http_status = 413


def body_of(request: HttpRequest, kind: type[Body]) -> Body:
    """Decode the JSON body. Raises `InvalidRequest`, which says where it is invalid."""
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > LARGEST_BODY:
        _read_past(request)
        raise TooLarge(f"The body can have at most {LARGEST_BODY} bytes, not {length}.")
    try:
        content = request.read(LARGEST_BODY + 1)
    except RequestDataTooBig as error:
        raise TooLarge from error
    except (UnreadablePostError, OSError) as error:
        raise InvalidRequest("The body could not be read completely.") from error
    if len(content) > LARGEST_BODY:
        raise TooLarge(f"The body can have at most {LARGEST_BODY} bytes.")
    try:
        return msgspec.json.decode(content or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body is invalid: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}") from error


def _read_past(request: HttpRequest) -> None:
    """Read a rejected body up to a limit: a server that closes a connection with unread
    data resets it, and the response may be lost."""
    with suppress(RequestDataTooBig, UnreadablePostError, OSError):
        for _ in range(_READ_PAST // LARGEST_BODY):
            if not request.read(LARGEST_BODY):
                return


def check_query(request: HttpRequest, known: Collection[str]) -> None:
    """Reject unknown query parameters, which may be a typing error or a secret, and values
    that no parameter accepts."""
    unknown = sorted(set(request.GET) - set(known))
    if unknown:
        raise InvalidRequest(
            f"Unknown query parameters: {', '.join(unknown)[:200]}.",
            hint=f"Valid parameters: {', '.join(known) or 'none'}. Send a token in the "
            "Authorization header, never in the URL.",
        )
    for name, values in request.GET.lists():
        if len(values) > _MOST_VALUES:
            raise InvalidRequest(f"{name} can occur at most {_MOST_VALUES} times.")
        for value in values:
            if "\x00" in value or len(value) > _LONGEST_VALUE:
                raise InvalidRequest(
                    f"{name} can have at most {_LONGEST_VALUE} characters, without NUL."
                )


def query_of(request: HttpRequest, kind: type[Parameters]) -> Parameters:
    """Decode the query string. Raises `InvalidRequest`, which names the parameter."""
    parameters = query_parameters(kind)
    check_query(request, parameters)
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name not in request.GET:
            continue
        value = _value(parameters[field.name], request.GET.getlist(field.name))
        try:
            found[field.name] = msgspec.convert(value, field.type)
        except msgspec.ValidationError as error:
            expected = _expected(parameters[field.name], value)
            raise InvalidRequest(f"{field.name} must be {expected}.") from error
    return kind(**found)


@cache
def query_parameters(kind: type[Query]) -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each parameter. An optional one has no `null`: a query
    string cannot contain it."""
    _, components = msgspec.json.schema_components([kind], ref_template="{name}")
    found: dict[str, dict[str, Any]] = components[kind.__name__]["properties"]
    for schema in found.values():
        options = [each for each in schema.pop("anyOf", []) if each != {"type": "null"}]
        for option in options:
            if len(option.get("enum", ())) == 1:
                option["const"] = option.pop("enum")[0]
        schema |= {"anyOf": options} if len(options) > 1 else dict(*options)
        if "$ref" in schema:
            schema |= {"type": "string", "enum": components[schema.pop("$ref")]["enum"]}
        if "default" in schema and schema["default"] in (None, []):
            del schema["default"]
    return found


def _value(schema: dict[str, Any], values: list[str]) -> Any:
    """Return what was sent as the JSON value that the schema describes."""
    if schema.get("type") == "array":
        return values
    text = values[-1]
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_number and _numbers(schema) else text


def _numbers(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the schema that accepts integers, or nothing."""
    options = schema.get("anyOf", [schema])
    return next((each for each in options if each.get("type") == "integer"), {})


def _expected(schema: dict[str, Any], value: str | int) -> str:
    if isinstance(value, int):
        accepted = _numbers(schema)
        return f"between {accepted['minimum']} and {accepted['maximum']}"
    words = schema.get("enum")
    wanted = f"one of {', '.join(words)}" if words else "an integer"
    return f"{wanted}, not {value[:50]!r}"


def idempotency_key(request: HttpRequest) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= LONGEST_KEY:
        raise InvalidRequest(
            f"The Idempotency-Key must have 1 to {LONGEST_KEY} characters."
        )
    return key


def wanted_wait(request: HttpRequest) -> float:
    """Return the seconds of `Prefer: wait=SECONDS` (RFC 7240); 0 without it."""
    for preference in request.headers.get("Prefer", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name.strip().lower() == "wait":
            try:
                seconds = float(value.strip().strip('"'))
            except ValueError:
                return 0.0  # an invalid preference is ignored (RFC 7240, 2)
            return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
    return 0.0
