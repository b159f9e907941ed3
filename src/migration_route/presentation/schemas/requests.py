"""Which bodies does the route take? An unknown field is an error, not a wish."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from migration_route.core.enums import Phase, Resolution

# PostgreSQL cannot store a NUL, and nobody means one.
_TEXT = "^[^\\x00]*$"
Alias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT)]
TargetName = Annotated[str, Meta(min_length=1, max_length=300, pattern=_TEXT)]
Moment = Annotated[datetime, Meta(tz=True)]
Reason = Annotated[str, Meta(max_length=2000, pattern=_TEXT)]
Name = Annotated[str, Meta(max_length=200, pattern=_TEXT)]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A body that somebody sends: an unknown field is an error, not a wish."""


class Reauthenticate(Request, frozen=True, kw_only=True):
    """`POST reauthenticate`: the password of the one who is signed in."""

    password: Annotated[str, Meta(min_length=1, max_length=4096)]


class CreateRun(Request, frozen=True, kw_only=True):
    """`POST runs`: carry out the plan that bears this fingerprint."""

    database: Alias = "default"
    targets: Annotated[list[TargetName], Meta(max_length=100)] = []
    fingerprint: Name = ""
    reason: Reason = ""
    build: Name = ""
    fake: bool = False
    fake_initial: bool = False
    rebuild_invalid_indexes: bool = False
    phase: Phase | None = None
    at: Moment | None = None
    wait_for_window: bool = True


class GiveReason(Request, frozen=True, kw_only=True):
    """`POST runs/{id}/hold`, `…/approve`, `…/reject`, `…/end-blockers`: why."""

    reason: Reason = ""


class ResumeRun(Request, frozen=True, kw_only=True):
    """`POST runs/{id}/resume`: why, and whether it goes on in spite of what it waits for:
    signals that hold it, its time, a window or a freeze."""

    reason: Reason = ""
    force: bool = False


class CancelRun(Request, frozen=True, kw_only=True):
    """`POST runs/{id}/cancel`: why, and whether its processes are to be killed."""

    reason: Reason = ""
    force: bool = False


class Resolve(Request, frozen=True, kw_only=True):
    """`POST runs/{id}/resolve`: what becomes of the step that stopped midway, and why."""

    reason: Reason = ""
    how: Resolution = Resolution.AS_IS
