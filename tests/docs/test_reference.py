"""Tests that the reference documents everything in the source, on the expected page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from argparse import ArgumentParser, _SubParsersAction
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from migration_route import conf, urls, views
from migration_route.api.endpoints import CALLS
from migration_route.api.urls import urlpatterns as addresses
from migration_route.conf import notifications
from migration_route.core import errors
from migration_route.core.enums import (
    Action,
    ActorKind,
    Direction,
    EffectState,
    EventKind,
    Mode,
    Resolution,
    RunState,
    Scope,
    Severity,
    StepState,
    WaitingReason,
)
from migration_route.core.events import EventType
from migration_route.core.values import CODES, HealthSettings, Rule, SignalName
from migration_route.management.commands.migration_route import Command
from migration_route.planning.findings.kinds import KINDS

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
TOOL = ROOT / "tools" / "make-reference"

IMPORTED = (urls, views)
"""Importing these modules defines every error."""


@cache
def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, "--check", "--folder", folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def has_row(name: str, word: str) -> bool:
    """Return whether a table of the page has a row about the word, with a description."""
    row = re.compile(rf"^\| \[?`{re.escape(word)}`(?:\]\([^)]*\))? \|(.*)\|$", re.MULTILINE)
    found = row.search(page(name))
    return found is not None and bool(found[1].rpartition("|")[2].strip())


def test_the_pages_are_as_the_source_says():
    answer = check(REFERENCE)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_page_that_is_behind_is_a_fault(tmp_path):
    """Another default in the page is detected, and so is a missing row."""
    folder = tmp_path / "reference"
    shutil.copytree(REFERENCE, folder)
    settings = folder / "settings.md"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace('`"15s"` |', '`"16s"` |', 1), encoding="utf-8")
    findings = folder / "findings.md"
    lines = findings.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("| [`not_atomic`]")]
    findings.write_text("".join(kept), encoding="utf-8")
    answer = check(folder)
    assert answer.returncode == 1
    assert "settings.md: is out of date" in answer.stdout
    assert "findings.md: is out of date" in answer.stdout


def test_a_table_by_hand_has_no_row_of_a_key_that_does_not_exist():
    assert rows_below("The entries of `WEBHOOKS`") == [*notifications.WEBHOOK_KEYS]
    assert rows_below("Email") == [*notifications.EMAIL_KEYS]
    assert rows_below("Default of `BUILD`") == [*conf.BUILD_VARIABLES]


def rows_below(heading: str) -> list[str]:
    """Return the first cells of the table below a heading of the page of settings."""
    _, _, below = page("settings").partition(f"\n## {heading}\n")
    return re.findall(r"^\| `(\w+)` \|", below.partition("\n## ")[0], re.MULTILINE)


def test_a_finding_without_a_page_of_its_own_is_a_fault(tmp_path):
    """So is a page of a finding that does not exist."""
    folder = tmp_path / "reference"
    shutil.copytree(REFERENCE, folder)
    (folder / "findings" / "drops_table.md").rename(folder / "findings" / "gone.md")
    answer = check(folder)
    assert answer.returncode == 1
    assert "findings/drops_table.md: is missing" in answer.stdout
    assert "findings/gone.md: no such finding" in answer.stdout


@pytest.mark.parametrize(
    "key",
    [
        *(
            found.name.upper()
            for found in fields(conf.RouteSettings)
            if found.name != "problems"
        ),
        *(found.name for found in fields(conf.DatabaseSettings)),
        *(found.name for found in fields(conf.Token)),
        *(found.name for found in fields(conf.Networks)),
        *(found.name for found in fields(conf.Issuer)),
        *(found.name for found in fields(HealthSettings)),
        *(found.name for found in fields(Rule) if found.name != "number"),
        *notifications.WEBHOOK_KEYS,
        *notifications.EMAIL_KEYS,
        *conf.BUILD_VARIABLES,
    ],
)
def test_every_setting_is_documented(key):
    if key in conf.BUILD_VARIABLES:
        assert f"| `{key}` |" in page("settings")
    else:
        assert has_row("settings", key)


def every_error(kind: type[errors.RouteError] = errors.RouteError):
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("migration_route."):
            yield from every_error(child)


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_is_documented_with_its_numbers_and_its_hint(kind):
    row = next(
        line
        for line in page("problems").splitlines()
        if line.startswith(f"| `{kind.code}` |")
    )
    _, _, status, code, text, when, _ = row.split("|")
    assert str(kind.http_status) in status
    assert str(kind.exit_code) in code
    assert kind().message in text
    assert kind.hint in text
    assert when.strip()


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (name, str(word))
        for name, kind in (
            ("events", EventKind),
            ("ledger", Action),
            ("ledger", ActorKind),
            ("states", RunState),
            ("states", StepState),
            ("states", WaitingReason),
            ("states", Mode),
            ("states", Direction),
            ("states", Severity),
            ("permissions", Scope),
            ("settings", SignalName),
            ("notifications", EventType),
            ("states", EffectState),
            ("states", Resolution),
        )
        for word in kind
    ],
)
def test_every_word_of_the_vocabulary_is_documented(name, word):
    assert has_row(name, word)


def test_every_finding_is_documented():
    assert KINDS.keys() == CODES
    assert {code for code in KINDS if not has_row("findings", code)} == set()


@pytest.mark.parametrize("address", addresses, ids=lambda address: str(address.pattern))
def test_every_address_of_the_api_is_documented(address):
    """Each URL is in the table of calls, except for the document itself and the fallback;
    and openapi.json lists exactly those."""
    path = re.sub(r"<\w+:(\w+)>", r"{\1}", str(address.pattern))
    if path in {"", "{rest}"}:
        assert "unknown_address" in page("api")
        return
    methods = [call.method.upper() for call in CALLS if call.path.lstrip("/") == path]
    if path == "openapi.json":
        methods = ["GET"]
    assert methods
    for method in methods:
        assert f"`{method} {path}`" in page("api")


def test_every_call_is_described_with_its_right():
    for call in CALLS:
        name = f"{call.method.upper()} {call.path.lstrip('/')}"
        assert has_row("api", name)
        assert f"### `{name}`" in page("api")


def every_verb(parser: ArgumentParser | None = None, path: tuple[str, ...] = ()):
    parser = parser or Command().create_parser("manage.py", "migration_route")
    below = [
        action.choices
        for action in parser._actions
        if isinstance(action, _SubParsersAction)
    ]
    if not below:
        yield path, parser
    for choices in below:
        for name, found in choices.items():
            yield from every_verb(found, (*path, name))


HIDDEN = {"deliver-notifications", "plan-json", "run-rehearsal"}


@pytest.mark.parametrize("path", [" ".join(path) for path, _ in every_verb()])
def test_every_verb_of_the_command_is_documented(path):
    """A verb without a help is internal."""
    if path in HIDDEN:
        assert f"### `{path}`" not in page("command")
    else:
        assert f"### `{path}`" in page("command")
        assert f"manage.py migration_route {path} " in page("command")


def test_every_exit_code_of_an_error_is_documented():
    codes = {kind.exit_code for kind in every_error()} | {0, 3, 7}
    for code in codes:
        assert f"\n| {code} | " in page("command")
