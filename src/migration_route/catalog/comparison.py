"""After how many operations does a catalog look as this one does? Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from migration_route.catalog.effects import Effect
from migration_route.catalog.marks import Mark
from migration_route.vocabulary import Presence

_Picture = tuple[frozenset[Mark], frozenset[Mark]]  # what is there, what is not yet sure


def compare(effects: Sequence[Effect], there: frozenset[Mark]) -> tuple[Presence, ...]:
    """Return what of each operation is in; `there` are the marks of the catalog.

    A later operation may undo what an earlier one did, so the catalog is held against
    the picture after each number of operations. Where none fits, one operation may be
    half done; where none fits even so, each is judged by its own marks.
    """
    pictures = _pictures(effects)
    touched = _touched(effects)
    fits = [
        count for count, picture in enumerate(pictures) if _fits(picture, there, touched)
    ]
    if fits:
        return tuple(
            _reading(effect, (number < count for count in fits))
            for number, effect in enumerate(effects)
        )
    halves = [
        number
        for number, effect in enumerate(effects)
        if effect.touched and _fits(pictures[number], there, touched - effect.touched)
    ]
    if len(halves) == 1:
        return tuple(
            Presence.MIDWAY
            if number == halves[0]
            else _reading(effect, [number < halves[0]])
            for number, effect in enumerate(effects)
        )
    return tuple(_alone(effect, there) for effect in effects)


def with_copy_left(
    states: Sequence[Presence], harmless: Sequence[bool]
) -> tuple[Presence, ...]:
    """Return the readings where the copy of a table is left that was to take its place:
    the first operation that is not in, and does something, is half done."""
    for number, (state, does_nothing) in enumerate(zip(states, harmless, strict=True)):
        if state is not Presence.IN and not does_nothing:
            return (*states[:number], Presence.MIDWAY, *states[number + 1 :])
    return tuple(states)


def compare_end(effects: Sequence[Effect], there: frozenset[Mark]) -> Presence:
    """Return what is in of that which the schema editor keeps for the end."""
    last, unsure = _pictures(effects)[-1]
    found = unsure & there
    if not unsure or not last <= there | unsure:
        return Presence.UNKNOWN if not unsure else Presence.OUT
    if found == unsure:
        return Presence.IN
    return Presence.MIDWAY if found else Presence.OUT


def _touched(effects: Iterable[Effect]) -> frozenset[Mark]:
    return frozenset(mark for effect in effects for mark in effect.touched)


def _pictures(effects: Sequence[Effect]) -> list[_Picture]:
    """Return the touched marks that are there before and after each operation."""
    there: frozenset[Mark] = frozenset()
    seen: frozenset[Mark] = frozenset()
    for effect in effects:
        there |= effect.lost - seen
        seen |= effect.touched
    unsure: frozenset[Mark] = frozenset()
    found = [(there, unsure)]
    for effect in effects:
        there = (there - effect.lost) | effect.gained
        unsure = (unsure - effect.touched) | effect.deferred
        found.append((there, unsure))
    return found


def _fits(picture: _Picture, there: frozenset[Mark], marks: frozenset[Mark]) -> bool:
    expected, unsure = picture
    sure = marks - unsure
    return expected & sure == there & sure


def _reading(effect: Effect, answers: Iterable[bool]) -> Presence:
    found = set(answers)
    if not effect.touched or len(found) > 1:
        return Presence.UNKNOWN
    return Presence.IN if found.pop() else Presence.OUT


def _alone(effect: Effect, there: frozenset[Mark]) -> Presence:
    gained, lost = effect.gained - effect.deferred, effect.lost
    if not gained | lost:
        return Presence.UNKNOWN
    done = {mark in there for mark in gained} | {mark not in there for mark in lost}
    if len(done) > 1:
        return Presence.MIDWAY
    return Presence.IN if done.pop() else Presence.OUT
