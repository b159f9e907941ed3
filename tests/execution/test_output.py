"""Tests that output is recorded in whole lines."""

from __future__ import annotations

import io
import os
import time
from contextlib import suppress

import hypothesis
import msgspec
import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from migration_route.execution.messages import GateReply, Message
from migration_route.execution.worker.output import (
    LONGEST_LINE,
    MOST_LINES,
    ByteLines,
    LineWriter,
    OutputBudget,
    RedactedBytes,
)
from migration_route.execution.worker.reporter import Reporter

LINES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=20),
    max_size=8,
)


def written(*pieces: str) -> list[str]:
    """Return the lines that result from writing these pieces."""
    lines: list[str] = []
    writer = LineWriter(lines.append, io.BytesIO())
    for piece in pieces:
        assert writer.write(piece) == len(piece)
    writer.finish()
    return lines


def cut(value, data):
    """Return text or bytes split at any positions."""
    places = sorted(data.draw(st.lists(st.integers(0, len(value)), max_size=5)))
    return [value[a:b] for a, b in zip([0, *places], [*places, len(value)], strict=True)]


@hypothesis.settings(deadline=None)
@given(LINES, st.data())
def test_lines_are_whole_however_they_are_written(lines, data):
    """The same lines, whether written as a whole or letter by letter."""
    assert written(*cut("".join(f"{line}\n" for line in lines), data)) == lines


@given(LINES, st.data())
def test_bytes_are_cut_into_the_same_lines(lines, data):
    """A pipe may split them anywhere."""
    found, reader = [], ByteLines()
    for piece in cut("".join(f"{line}\n" for line in lines).encode(), data):
        found += reader.feed(piece)
    assert found == [line.encode() for line in lines]
    assert reader.finish() == []
    assert [*reader.feed(b"rest"), *reader.finish()] == [b"rest"]


def test_a_last_line_without_its_end_is_not_lost():
    """Nor is it passed on twice."""
    assert written("a\nb") == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("10%\r50%\r100%\n", "100%"), ("windows\r\n", "windows"), ("10%\r100%\r\n", "100%")],
)
def test_of_a_line_that_is_written_over_the_last_is_kept(text, line):
    """A progress bar is reduced to its last state; a Windows line ending is not content."""
    assert written(text) == [line]


def test_a_line_without_an_end_does_not_fill_the_memory():
    """It is passed on in pieces, without loss."""
    for pieces in (["x" * 1000] * 25, ["x" * 25_000], ["x" * 24_999, "x\n"]):
        found = written(*pieces)
        assert len(found) > 1
        assert max(map(len, found)) <= LONGEST_LINE
        assert "".join(found) == "x" * 25_000


def test_a_progress_bar_without_an_end_is_kept_small():
    """Only the last of a million states remains."""
    assert written(*["\r50%"] * 20_000, "\r100%") == ["100%"]


@hypothesis.settings(deadline=None)
@given(st.data())
def test_a_secret_is_masked_wherever_output_is_cut(data):
    """At the split of a long line, and across any chunks of bytes."""
    before = data.draw(st.sampled_from(["x", "x ", "ü"])) * data.draw(
        st.sampled_from([1, 4_000, LONGEST_LINE // 2, LONGEST_LINE - 3, LONGEST_LINE + 20])
    )
    secret = data.draw(
        st.sampled_from(
            [settings.SECRET_KEY, "postgres://ada:swordfish@db/x", "password='swordfish'"]
        )
    )
    text = f"{before} {secret}{before}"
    lines = RedactedBytes(OutputBudget())
    found = [line for piece in cut(text.encode(), data) for line in lines.feed(piece)]
    shown = "".join([*found, *lines.finish()])
    assert settings.SECRET_KEY not in shown
    assert "swordfish" not in shown
    assert shown.startswith(before)
    assert shown == "".join(
        written(*cut(text, data))
    )  # Python's own output takes the same path


@pytest.mark.parametrize("end", ["-----END PRIVATE KEY-----\n", ""])
def test_a_key_of_many_lines_is_masked(end):
    """Even if it is incomplete; later text is shown."""
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n" * 30
    found = written(f"before\n-----BEGIN PRIVATE KEY-----\n{body}{end}after it.\n")
    assert (found[0], found[-1]) == ("before", "after it.")
    assert "MII" not in "".join(found)
    assert "MII" not in "".join(written("-----BEGIN RSA PRIVATE KEY-----" + "MIIE" * 9000))


def test_cutting_takes_linear_time():
    """Twenty times the text takes about twenty times as long, in any pieces."""

    def seconds(size: int, piece: int) -> float:
        text = "password is a-b-c-d secret://x.y:" * (size // 33)
        writer = LineWriter(lambda line: None, io.BytesIO())
        start = time.perf_counter()
        for place in range(0, len(text), piece):
            writer.write(text[place : place + piece])
        return time.perf_counter() - start

    seconds(100_000, 1000)
    for piece in (1000, 10_000_000):
        small, large = seconds(100_000, piece), seconds(2_000_000, piece)
        assert large < small * 20 * 4 + 0.5


def test_a_budget_that_is_spent_reads_no_more():
    """The line that exceeds it is the last one; the rest costs next to nothing."""
    budget = OutputBudget()
    out, err = RedactedBytes(budget), RedactedBytes(budget)
    found = [line for _ in range(30) for line in out.feed(b"line\n" * 1000)]
    assert len(found) == MOST_LINES + 1
    assert budget.is_spent
    assert [*err.feed(b"more\n"), *err.finish(), *out.finish()] == []


def test_the_stream_is_what_programs_expect():
    """Programs use a descriptor, an encoding and `isatty`."""
    with open(os.devnull, "wb") as below:  # noqa: PTH123 - needs a descriptor
        writer = LineWriter(lambda line: None, below)
        assert (writer.fileno(), writer.buffer) == (below.fileno(), below)
        assert (writer.encoding, writer.writable(), writer.isatty()) == (
            "utf-8",
            True,
            False,
        )


@pytest.fixture
def told():
    """Return a reporter, and what it has reported."""
    out, into = os.pipe()
    os.set_blocking(out, False)
    rest = []

    def read() -> list[Message]:
        with suppress(BlockingIOError):
            rest.append(os.read(out, 1 << 20))
        lines = b"".join(rest).splitlines()
        rest.clear()
        return [msgspec.json.decode(line, type=Message) for line in lines]

    reporter = Reporter(into, "default", lambda: GateReply(go=True))
    yield reporter, read
    os.close(out)
    os.close(into)


@pytest.mark.parametrize("text", ["größer", "\udc80 odd", "a\0b", "", settings.SECRET_KEY])
def test_no_text_makes_the_reporter_fail(told, text):
    """Text that `manage.py migrate` could print to stderr must not fail here."""
    reporter, read = told
    writer = LineWriter(lambda line: reporter.output("stderr", line), io.BytesIO())
    writer.write(f"{text}\n")
    (said,) = read()
    assert said.kind == "output"
    assert settings.SECRET_KEY not in said.text


def test_a_flood_of_statements_is_counted(told):
    """The first hundred are reported, the rest as a number with a duration."""
    reporter, read = told
    for _ in range(150):
        reporter.statement_starts("UPDATE a SET b = 1")
        reporter.statement_finished("UPDATE a SET b = 1", 2, None)
    said = read()
    reporter._report_omitted()
    (omitted,) = read()
    assert [m.kind for m in said].count("statement") == 100
    assert (omitted.kind, omitted.count, omitted.duration_ms) == (
        "statements_omitted",
        50,
        100,
    )


@pytest.mark.parametrize(
    ("sql", "touches"),
    [
        ("SELECT 1", False),
        ("  select 1", False),
        ("(SELECT 1)", False),
        ("SHOW TABLES", False),
        ("SAVEPOINT a", False),
        ("PRAGMA foreign_keys", False),
        ("UPDATE a SET b = 1", True),
        ("WITH a AS (DELETE FROM b) SELECT 1", True),
        ("/* SELECT */ DELETE FROM a", True),
        ("CREATE TABLE a (id integer)", True),
        ("SELECTED", True),
        ("", True),
    ],
)
def test_what_may_change_something_is_told_before_it_is_sent(told, sql, touches):
    """In doubt a statement counts as a change."""
    reporter, read = told
    reporter.statement_starts(sql)
    assert ("touching" in [m.kind for m in read()]) is touches
    reporter.statement_finished(sql, 1, None)
    assert ("wrote" in [m.kind for m in read()]) is touches


def test_a_statement_that_failed_wrote_nothing(told):
    """It is reported before it is sent, like the others."""
    reporter, read = told
    reporter.statement_starts("UPDATE a SET b = 1")
    reporter.statement_finished("UPDATE a SET b = 1", 1, ValueError("no"))
    assert [m.kind for m in read()] == ["touching", "statement_started", "statement"]
