"""Request bodies; an unknown field is an error."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from migration_route.core.enums import Mode, Phase, Resolution

# PostgreSQL cannot store NUL.
_TEXT = "^[^\\x00]*$"
Alias = Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT)]
TargetName = Annotated[str, Meta(min_length=1, max_length=300, pattern=_TEXT)]
Moment = Annotated[datetime, Meta(tz=True)]
LONGEST_REASON = 2000  # characters
Reason = Annotated[str, Meta(max_length=LONGEST_REASON, pattern=_TEXT)]
Name = Annotated[str, Meta(max_length=200, pattern=_TEXT)]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request body; an unknown field is an error."""


class Reauthenticate(Request, frozen=True, kw_only=True):
    """`POST reauthenticate`: the password of the signed-in user."""

    password: Annotated[str, Meta(min_length=1, max_length=4096)]


class CreateRun(Request, frozen=True, kw_only=True):
    """`POST runs`: apply the plan with this fingerprint."""

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

    @property
    def mode(self) -> Mode:
        """The mode of `fake` and `fake_initial`."""
        if self.fake:
            return Mode.FAKE
        return Mode.FAKE_INITIAL if self.fake_initial else Mode.APPLY


class GiveReason(Request, frozen=True, kw_only=True):
    """`POST runs/{id}/pause`, `…/approve`, `…/reject`, `…/terminate-blockers`: the
    reason."""

    reason: Reason = ""


class ResumeRun(GiveReason, frozen=True, kw_only=True):
    """`POST runs/{id}/resume`: the reason, and whether to ignore what the run waits for:
    health signals, its scheduled time, a window or a freeze."""

    force: bool = False


class CancelRun(GiveReason, frozen=True, kw_only=True):
    """`POST runs/{id}/cancel`: the reason, and whether to kill its processes."""

    force: bool = False


class Resolve(GiveReason, frozen=True, kw_only=True):
    """`POST runs/{id}/resolve`: how to resolve the step that stopped, and the reason."""

    how: Resolution = Resolution.AS_IS
