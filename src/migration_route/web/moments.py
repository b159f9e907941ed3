"""What does a page say about the moment: is it a good one?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from migration_route.deciding.health import Hold, Moment
from migration_route.health import SignalState
from migration_route.web.wording import words

_TONES = {
    SignalState.NORMAL: "good",
    SignalState.STOP: "bad",
    SignalState.UNKNOWN: "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalView:
    """A signal as a page shows it."""

    name: str
    state: str
    tone: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentView:
    """How the database is, for whoever wants to apply a plan now."""

    is_good: bool
    worth_knowing: tuple[SignalView, ...]  # those that stop, and those that are unknown
    normal: tuple[SignalView, ...]


def moment_view(moment: Moment) -> MomentView:
    """Return a moment as a page shows it."""
    views = signal_views(signal.to_dict() for signal in moment.signals)
    return MomentView(
        is_good=not isinstance(moment, Hold),
        worth_knowing=tuple(one for one in views if one.state != SignalState.NORMAL),
        normal=tuple(one for one in views if one.state == SignalState.NORMAL),
    )


def signal_views(signals: Iterable[Mapping[str, Any]]) -> tuple[SignalView, ...]:
    """Return signals, as they are stored, as a page shows them."""
    return tuple(
        SignalView(
            name=words(signal["name"]),
            state=signal["state"],
            tone=_TONES[SignalState(signal["state"])],
            reason=signal["reason"],
        )
        for signal in signals
    )
