"""Tests of the colors of a terminal, and of the output that they are for."""

from __future__ import annotations

import io

import pytest

from migration_route.cli.colors import colored, has_colors
from migration_route.cli.remote.main import parser


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        ("  warning: drops_column shop.0002: gone", 33, "warning"),
        ("  blocking: irreversible", 31, "blocking"),
        ("risk: dangerous, 2 warnings", 31, "dangerous"),
        ("risk: at least caution", 33, "caution"),
        ("  applied      shop.0002_sku  12 ms", 32, "applied"),
        ("run 01a2 on default: failed", 31, "failed"),
    ],
)
def test_a_state_or_severity_has_its_color(line, code, word):
    """The text without the codes stays the same."""
    found = colored(line)
    assert f"\x1b[{code}m{word}\x1b[0m" in found
    assert found.replace(f"\x1b[{code}m", "").replace("\x1b[0m", "") == line


@pytest.mark.parametrize(
    "line",
    ["  shop.0002_failed", "    warnings of old", "fingerprint failed-x", "safely", ""],
)
def test_other_text_has_none(line):
    """A name or a sentence that contains such a word."""
    assert colored(line) == line


class Tty(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


def test_colors_are_for_terminals_that_have_them(monkeypatch):
    """Neither for a pipe, nor against the user's wish."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert has_colors(Tty())
    assert not has_colors(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colors(Tty())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colors(Tty())


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("apple", "Did you mean 'apply'?"),
        ("stat", "Did you mean 'status'?"),
        ("xyzzy", "Use "),
    ],
)
def test_an_unknown_verb_is_answered_with_the_likely_one(typed, words, capsys):
    """Instead of all verbs."""
    with pytest.raises(SystemExit) as end:
        parser().parse_args([typed])
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert ("choose from" in errors) is False


def test_the_help_names_the_exit_codes():
    """Scripts depend on them."""
    text = " ".join(parser().format_help().split())
    assert "3 migrations are pending" in text
    assert "130 interrupted" in text
