"""Decides from health signals whether a step may start. A pure function without Django."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from migration_route.core.values import (
    Freeze,
    HealthSettings,
    HealthSignal,
    SignalName,
    SignalState,
    normal_signal,
    stop_signal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """A step may start, as far as is known."""

    signals: tuple[HealthSignal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A step may not start, with the reasons."""

    signals: tuple[HealthSignal, ...]
    because: tuple[HealthSignal, ...]  # the signals that stop; at least one

    @property
    def reason(self) -> str:
        """Return the reasons in one line."""
        return " ".join(signal.reason for signal in self.because)


HealthDecision = Proceed | Pause


def evaluate_health(
    signals: Iterable[HealthSignal],
    settings: HealthSettings,
    *,
    overridden: Collection[SignalName] = (),
) -> HealthDecision:
    """Return `Pause` if a signal stops that is neither ignored nor overridden; an unknown
    signal does not stop.

    `overridden` are the signals despite which a user let the run continue.
    """
    every = tuple(signals)
    because = tuple(
        signal
        for signal in every
        if signal.state is SignalState.STOP
        and signal.name not in settings.ignore
        and signal.name not in overridden
    )
    return Pause(signals=every, because=because) if because else Proceed(signals=every)


def freeze_signal(freezes: Iterable[Freeze], now: datetime) -> HealthSignal:
    """Return a signal that stops during a freeze. `now` is aware."""
    current = [freeze for freeze in freezes if freeze.begins <= now < freeze.ends]
    if not current:
        return normal_signal(SignalName.FREEZE, "No freeze is in effect.")
    last = max(current, key=lambda freeze: freeze.ends)
    ends = last.ends.isoformat(timespec="minutes")
    return stop_signal(
        SignalName.FREEZE,
        f"A freeze is in effect until {ends}: {last.reason.rstrip('.')}.",
        until=ends,
        why=last.reason,
    )
