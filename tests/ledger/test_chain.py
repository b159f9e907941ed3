"""Tests that every changed, missing, added or moved entry of a chain is detected."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from migration_route.ledger.hashchain import GENESIS, Line, first_break, link

WORDS = st.dictionaries(
    st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3
)
CHAINS = st.lists(WORDS, min_size=1, max_size=8)


def chained(words: list[dict[str, object]]) -> list[Line]:
    """Return a chain of entries with these texts."""
    lines, previous = [], GENESIS
    for sequence, said in enumerate(words, start=1):
        line = Line(
            sequence=sequence, words=said, previous=previous, digest=link(previous, said)
        )
        lines.append(line)
        previous = line.digest
    return lines


def renumbered(lines: list[Line]) -> list[Line]:
    """Return the entries with new numbers, as after tampering."""
    return [replace(line, sequence=number) for number, line in enumerate(lines, start=1)]


@given(CHAINS)
def test_a_chain_that_nobody_touched_holds(words):
    """Every entry is valid, and their number is returned."""
    assert first_break(chained(words)) == (len(words), None)


def test_an_empty_chain_holds():
    assert first_break([]) == (0, None)


@given(CHAINS, st.data())
def test_a_changed_line_is_found_at_its_place(words, data):
    """The chain breaks at that entry."""
    lines = chained(words)
    place = data.draw(st.integers(0, len(lines) - 1))
    lines[place] = replace(lines[place], words={**words[place], "another": "word"})
    held, broken = first_break(lines)
    assert held == place
    assert broken is not None
    assert broken.sequence == place + 1


@given(CHAINS, st.data())
def test_a_line_that_was_rewritten_with_its_digest_is_found_at_the_next(words, data):
    """Every later entry would have to be rewritten as well."""
    lines = chained([*words, {"last": 1}])
    place = data.draw(st.integers(0, len(words) - 1))
    said = {**words[place], "another": "word"}
    previous = lines[place].previous
    lines[place] = replace(lines[place], words=said, digest=link(previous, said))
    held, broken = first_break(lines)
    assert held == place + 1
    assert broken is not None
    assert broken.sequence == place + 2


@given(CHAINS, st.data(), st.booleans())
def test_a_missing_line_is_found(words, data, count_again):
    """A gap is detected even where the later entries were renumbered."""
    lines = chained([*words, {"last": 1}])
    place = data.draw(st.integers(0, len(words) - 1))
    del lines[place]
    held, broken = first_break(renumbered(lines) if count_again else lines)
    assert held == place
    assert broken is not None
    assert broken.sequence == place + 1


@given(CHAINS, WORDS, st.data(), st.booleans())
def test_an_added_line_is_found(words, said, data, count_again):
    """The chain breaks right after it."""
    lines = chained([*words, {"last": 1}])
    place = data.draw(st.integers(0, len(words)))
    previous = lines[place - 1].digest if place else GENESIS
    added = Line(
        sequence=place + 1, words=said, previous=previous, digest=link(previous, said)
    )
    lines.insert(place, added)
    held, broken = first_break(renumbered(lines) if count_again else lines)
    assert broken is not None
    assert held == place + 1
    assert broken.sequence == place + 2


@given(CHAINS, st.data(), st.booleans())
def test_lines_that_changed_places_are_found(words, data, count_again):
    """The chain breaks at the first of the two."""
    lines = chained([*words, {"last": 1}])
    place = data.draw(st.integers(0, len(lines) - 2))
    lines[place], lines[place + 1] = lines[place + 1], lines[place]
    held, broken = first_break(renumbered(lines) if count_again else lines)
    assert held == place
    assert broken is not None


def test_the_digest_covers_the_line_before():
    """The same text has another digest after another entry."""
    words = {"action": "run_requested"}
    assert link(GENESIS, words) != link("1" * 64, words)
