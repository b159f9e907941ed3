"""Tests that the arguments of the client are those of the command."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError, _SubParsersAction

import pytest

from migration_route.cli.remote.main import parser, seconds
from migration_route.cli.remote.transport import api_address
from migration_route.conf import read_settings
from migration_route.core.errors import InvalidRequest
from migration_route.management.commands.migration_route import Command

DJANGO = {"help", "version", "verbosity", "settings", "pythonpath", "traceback"}
DJANGO |= {"no_color", "force_color", "skip_checks"}
ON_THE_HOST = {
    "run": None,
    "permit": None,
    "token list": None,
    "worker": None,
    "rehearse": {"clean"},
}
"""What requires a shell on the host: verbs, and options of verbs."""
FROM_AFAR = {"url", "timeout", "patience", "ca", "build", "build_timeout"}
FROM_AFAR |= {"wait_for_approval"}


def verbs(found: ArgumentParser, path: tuple[str, ...] = ()) -> dict[str, set[str]]:
    """Return the arguments of each listed verb."""
    told: dict[str, set[str]] = {}
    for action in found._actions:
        if not isinstance(action, _SubParsersAction):
            continue
        for choice in action._choices_actions:
            below = action.choices[choice.dest]
            words = {each.dest for each in below._actions} - DJANGO
            told |= verbs(below, (*path, choice.dest)) or {
                " ".join((*path, choice.dest)): words
            }
    return told


def test_every_verb_of_the_command_is_there_with_its_options():
    """Except for what requires a shell on the host."""
    here = verbs(Command().create_parser("manage.py", "migration_route"))
    there = verbs(parser())
    for verb, words in here.items():
        left_out = ON_THE_HOST.get(verb, set())
        if left_out is not None:
            assert words - left_out <= there.get(verb, set()), verb
    for verb, words in there.items():
        if verb in here:
            assert words - here[verb] <= FROM_AFAR, verb


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://example.com/m/", "https://example.com/m/api/v1/"),
        ("https://example.com/m", "https://example.com/m/api/v1/"),
        ("https://example.com/m/api/v1", "https://example.com/m/api/v1/"),
        ("https://example.com/m/api/v1/", "https://example.com/m/api/v1/"),
        ("http://[::1]:8000", "http://[::1]:8000/api/v1/"),
    ],
)
def test_the_address_is_where_the_project_mounts_it(url, address):
    """Or that of its API."""
    assert api_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "example.com/m",
        "ftp://example.com/m",
        "file:///etc/passwd",
        "https://",
        "https://example.com:x/",
        "https://user:secret@example.com/m/",
        "https://example.com/m/?token=x",
    ],
)
def test_what_is_no_address_is_told(url):
    """Without possible secrets in it."""
    with pytest.raises(InvalidRequest) as error:
        api_address(url)
    assert "secret@" not in str(error.value)


def test_a_duration_is_told_as_elsewhere():
    """A bare number means seconds."""
    assert [seconds(text) for text in ("500ms", "10m", "30", "1.5")] == [0.5, 600, 30, 1.5]
    with pytest.raises(ArgumentTypeError):
        seconds("soon")


@pytest.mark.parametrize("words", [["status"], ["plan", "--url", ""]])
def test_without_an_address_nothing_is_sent(call, monkeypatch, words):
    """The error says how to set it."""
    monkeypatch.delenv("MIGRATION_ROUTE_URL")
    said = call(*words)
    assert (said.code, "MIGRATION_ROUTE_URL" in said.error) == (2, True)


@pytest.mark.parametrize(("token", "code"), [("", 4), (" ", 4), ("a\nb", 2), ("ü", 2)])
def test_what_is_no_token_is_not_sent(call, server, monkeypatch, token, code):
    """Nor printed."""
    monkeypatch.setenv("MIGRATION_ROUTE_TOKEN", token)
    assert call("status").code == code
    assert server.asked == []


def test_the_token_is_no_argument(call):
    """Other users can read arguments."""
    assert call("status", "--token", "x").code == 2


def test_a_token_is_made_without_a_server(call, server):
    """As by the command."""
    said = call("token", "new", "ci", "--scope", "read", "--json")
    assert read_settings({"TOKENS": [said.json["entry"]]}).problems == ()
    assert call("token", "new", "ci", "--scope", "read", "--expires", "soon").code == 2
    assert server.asked == []


def test_the_client_is_imported_without_django():
    """Nor does it need the extra to start."""
    code = "import sys, migration_route.cli.remote.main; "
    code += "sys.exit(bool({'django', 'rich', 'httpx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
