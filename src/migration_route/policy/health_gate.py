"""Go, or hold? What the signals come to. A pure function; no Django here."""

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
    normal,
    stop,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The moment is good, as far as it is known."""

    signals: tuple[HealthSignal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Nothing begins now, and why."""

    signals: tuple[HealthSignal, ...]
    because: tuple[HealthSignal, ...]  # those that stop; at least one

    @property
    def reason(self) -> str:
        """Return why, in one line."""
        return " ".join(signal.reason for signal in self.because)


HealthDecision = Go | Hold


def evaluate_health(
    signals: Iterable[HealthSignal],
    settings: HealthSettings,
    *,
    overridden: Collection[SignalName] = (),
) -> HealthDecision:
    """Hold when a signal stops that nobody ignores; what is unknown does not stop.

    `overridden` are the signals in spite of which a person has let the run go on.
    """
    told = tuple(signals)
    because = tuple(
        signal
        for signal in told
        if signal.state is SignalState.STOP
        and signal.name not in settings.ignore
        and signal.name not in overridden
    )
    return Hold(signals=told, because=because) if because else Go(signals=told)


def freeze_signal(freezes: Iterable[Freeze], now: datetime) -> HealthSignal:
    """Tell whether one of these times is now. `now` is aware."""
    current = [freeze for freeze in freezes if freeze.begins <= now < freeze.ends]
    if not current:
        return normal(SignalName.FREEZE, "No freeze is set for now.")
    last = max(current, key=lambda freeze: freeze.ends)
    ends = last.ends.isoformat(timespec="minutes")
    return stop(
        SignalName.FREEZE,
        f"Nothing begins before {ends}: {last.reason.rstrip('.')}.",
        until=ends,
        why=last.reason,
    )
