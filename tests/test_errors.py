"""Tests of the tree of errors and of their texts."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import migration_route
from migration_route.core import errors
from migration_route.core.errors import IdentityUnavailable, RouteError
from migration_route.presentation.schemas import to_json
from migration_route.presentation.text.problems import problem_answer


def _subclasses(kind: type[RouteError]) -> list[type[RouteError]]:
    found = [kind]
    for child in kind.__subclasses__():
        found += _subclasses(child)
    return found


for _module in pkgutil.walk_packages(migration_route.__path__, "migration_route."):
    if ".migrations." not in _module.name:
        importlib.import_module(_module.name)

EVERY = [
    kind
    for kind in _subclasses(RouteError)
    if kind.__module__.startswith("migration_route")
]
TREE = [kind for kind in EVERY if kind.__module__ == errors.__name__]
CONTRACT = {
    "unauthenticated",
    "forbidden",
    "csrf_failed",
    "approval_required",
    "plan_changed",
    "stale_code",
    "active_run",
    "orphaned_session",
    "needs_resolution",
    "conflict",
    "inconsistent_history",
    "unknown_target",
    "unknown_database",
    "fingerprint_required",
    "idempotency_mismatch",
    "invalid_request",
    "database_unavailable",
    "pooler_detected",
    "window_closed",
}


def _drawn() -> dict[str, int]:
    """Return the names in the drawn tree, each with its depth."""
    lines = (errors.__doc__ or "").splitlines()
    found = {}
    for line in lines:
        if match := re.match(r"([│ ]*(?:[├└]── )?)([A-Z]\w+)(?:\s{2,}.*)?$", line):
            found[match[2]] = len(match[1]) // 4
    return found


def test_the_drawn_tree_is_the_real_one():
    """Every class is drawn at its actual depth, and nothing else is drawn."""
    depth = {
        kind.__name__: len([base for base in kind.__mro__ if issubclass(base, RouteError)])
        - 1
        for kind in TREE
    }
    assert _drawn() == depth


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_the_first_line_of_the_docstring_is_the_default_message(kind):
    """An error raised without a message uses the first line of its class docstring."""
    line = inspect.cleandoc(kind.__doc__ or "").split("\n")[0]
    assert line.endswith(".")
    assert kind().message == line
    assert str(kind()) == f"{line} {kind.hint}".strip()


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_a_message_a_hint_and_facts_are_kept(kind):
    """An explicit message, hint and facts replace the defaults."""
    error = kind("It is so.", hint="Do this.", run="42")
    assert (error.message, error.hint, error.facts) == (
        "It is so.",
        "Do this.",
        {"run": "42"},
    )
    assert str(error) == "It is so. Do this."


def test_a_code_means_one_thing():
    """Two classes share a code only where one is a subclass of the other."""
    by_code: dict[str, list[type[RouteError]]] = {}
    for kind in EVERY:
        by_code.setdefault(kind.code, []).append(kind)
    for code, kinds in by_code.items():
        general = min(kinds, key=lambda kind: len(kind.__mro__))
        assert all(issubclass(kind, general) for kind in kinds), code
    assert IdentityUnavailable.code == "unauthenticated"


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_status_and_exit_code_agree_with_the_contract(kind):
    """The HTTP status and the exit code of a class correspond."""
    expected = {400: {2}, 401: {4}, 403: {4}, 404: {2}, 405: {2}, 409: {5, 6}, 413: {2}}
    expected |= {422: {2}, 428: {2}, 429: {4}, 500: {1}, 502: {1, 8}, 503: {1, 8}}
    assert kind.exit_code in expected[kind.http_status]
    assert re.fullmatch(r"[a-z_]+", kind.code)


def test_every_code_of_the_contract_that_is_carried_exists():
    """Scripts depend on these codes."""
    assert {kind.code for kind in EVERY} >= CONTRACT


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_every_error_can_go_over_the_wire(kind):
    """Each error converts to a problem, with its own code and status, and encodes as
    JSON."""
    problem = problem_answer(kind(run="42", step="a.b"))
    assert (problem.code, problem.status) == (kind.code, kind.http_status)
    assert (problem.run, problem.facts) == ("42", {"step": "a.b"})
    assert to_json(problem).startswith(b"{")
