"""Tests of the points that the sweep strikes at."""

from __future__ import annotations

import pytest

from tests.sweep.points import FROZEN, HOST, KILLED, PARTITIONED, STRIKES, TARGETS, points
from tests.sweep.sweep import Choice

INSTANTS = [
    {"process": process, "number": number, "label": label, "has_session": has_session}
    for process, number, label, has_session in (
        ("worker", 2, "after a commit", True),
        ("worker", 1, "says ready", False),
        ("supervisor", 1, "before the claim", False),
        ("supervisor", 2, "after the claim", False),
    )
]


def test_an_interrupted_host_is_struck_at_every_instant_of_both_processes():
    """Each strike on a host has one point for each instant, with or without a session."""
    found = points(INSTANTS, TARGETS, STRIKES)
    for strike in (PARTITIONED, FROZEN):
        struck = [
            (point.process, point.number) for point in found if point.strike == strike
        ]
        assert struck == [
            ("supervisor", 1),
            ("supervisor", 2),
            ("worker", 1),
            ("worker", 2),
        ]
    assert {point.target for point in found if point.strike != KILLED} == {HOST}


def test_a_process_is_killed_at_its_own_instants_and_a_session_where_there_is_one():
    """The supervisor is killed at the worker's instants as well."""
    found = points(INSTANTS, TARGETS, [KILLED])
    counts = {target: sum(p.target == target for p in found) for target in TARGETS}
    assert counts == {"supervisor": 4, "worker": 2, "backend": 1}


@pytest.mark.parametrize(("vendor", "known"), [("sqlite", [KILLED]), ("mariadb", STRIKES)])
def test_only_a_server_can_be_cut_off(vendor, known):
    """A host cannot be cut off from a file."""
    assert Choice(targets=TARGETS, strikes=STRIKES).strikes_on(vendor) == list(known)


def test_a_choice_takes_from_each_strike_and_target():
    """Every second point of each group, and all points that match the name."""
    found = points(INSTANTS, TARGETS, STRIKES)
    chosen = Choice(targets=TARGETS, every=2).of(found)
    groups = {(point.strike, point.target) for point in chosen}
    assert len(chosen) == 7
    assert groups == {(point.strike, point.target) for point in found} - {
        (KILLED, "backend")
    }
    named = Choice(targets=TARGETS, only="frozen host at worker").of(found)
    assert [point.number for point in named] == [1, 2]
