"""Tests of the size, the docstrings, the layers and the vocabulary of the source."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import get_args

import pytest
from django.apps import apps
from django.core.management import call_command

import migration_route
from migration_route.api.openapi import document
from migration_route.core import enums
from migration_route.execution import messages
from migration_route.execution.supervisor.recorder import EventRecorder

SOURCE = Path(migration_route.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in MODULES]
PURE = [
    "cli.offline",
    "cli.remote.main",
    "cli.verbs",
    "core.canonical_json",
    "core.clock",
    "core.credentials",
    "core.enums",
    "core.errors",
    "core.secret_patterns",
    "core.setting_values",
    "core.signatures",
    "core.values",
    "ledger.evidence",
    "ledger.hashchain",
    "planning.plan",
    "policy.approvals",
    "policy.decision",
    "presentation.schemas",
    "presentation.text",
]


def test_no_module_is_longer_than_five_hundred_lines():
    lengths = {
        name: len(path.read_text().splitlines())
        for name, path in zip(NAMES, MODULES, strict=True)
    }
    assert {name: length for name, length in lengths.items() if length > 500} == {}


def test_every_module_has_a_docstring():
    """Migrations are as Django writes them."""
    silent = [
        name
        for name, path in zip(NAMES, MODULES, strict=True)
        if path.parent.name != "migrations" and path.read_text()
        if not (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
    ]
    assert silent == []


def test_no_public_class_name_is_used_twice():
    """A class can be found by its name alone."""
    modules: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


def test_what_is_pure_is_imported_without_django():
    """A remote client can decode the wire types without a web framework."""
    names = ", ".join(f"migration_route.{name}" for name in PURE)
    code = f"import sys, {names}; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_migration_is_missing(database):
    """`makemigrations --check` finds nothing to do on this Django."""
    out = StringIO()
    call_command("makemigrations", "migration_route", check=True, dry_run=True, stdout=out)
    assert "No changes detected" in out.getvalue()


def test_every_list_of_words_in_the_api_is_one_of_the_vocabulary():
    """The enumerations in openapi.json are exactly those of the code."""
    known = {
        tuple(member.value for member in kind)
        for kind in vars(enums).values()
        if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
    }
    offered = re.findall(r'"enum": (\[[^\]]*\])', document("/").decode())
    assert offered
    for words in offered:
        assert tuple(json.loads(words)) in known


def test_every_message_of_a_worker_is_heard():
    """The supervisor records, answers, or shows every message that a worker can send."""
    heard = set(EventRecorder.__new__(EventRecorder)._handlers())
    answered = {"gate", "operation_gate", "session_gate", "lock_pause"}
    shown = {"lock_fired"}  # by `running.waiting`, in the row only
    rehearsed = {"watched", "denied", "unrehearsed"}  # by `rehearsal.hearing`
    assert heard | answered | shown | rehearsed == set(get_args(messages.Kind))


def test_active_and_ended_states_are_all_states():
    """Each state is either active or ended."""
    assert set(enums.RunState) == enums.ACTIVE_STATES | enums.ENDED_STATES
    assert not enums.ACTIVE_STATES & enums.ENDED_STATES


@pytest.mark.parametrize(
    ("kind", "width"),
    [
        (enums.RunState, 20),
        (enums.RehearsalState, 20),
        (enums.CopyKind, 20),
        (enums.Direction, 10),
        (enums.Mode, 20),
        (enums.ActorKind, 20),
        (enums.Action, 40),
        (enums.EventKind, 40),
        (enums.WaitingReason, 40),
        (enums.ApprovalDecision, 10),
    ],
)
def test_every_word_fits_into_its_column(kind, width):
    """PostgreSQL and MariaDB would refuse a longer one."""
    assert max(len(word) for word in kind) <= width


def test_no_row_points_outside_the_app():
    """The tables can be created on an empty database."""
    for model in apps.get_app_config("migration_route").get_models():
        assert not [field for field in model._meta.get_fields() if field.is_relation]
