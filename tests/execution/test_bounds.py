"""Tests that the records of a run are bounded, whatever a migration prints or raises."""

from __future__ import annotations

import pytest

from migration_route.core.enums import EventKind, RunState
from migration_route.execution.worker.output import (
    LONGEST_LINE,
    MOST_CHARACTERS,
    MOST_LINES,
)
from migration_route.ledger.queries import list_entries
from migration_route.models import Event, Run
from migration_route.presentation.schemas import to_json
from migration_route.presentation.serializers import run_answer
from tests.execution.runs import carried

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _inline(project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


def recorded(run) -> list[tuple[str, str, str]]:
    """Return kind, text and facts of every event of a run."""
    rows = Event.objects.filter(run=run.id).order_by("number")
    return list(rows.values_list("kind", "text", "facts"))


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.write(1, b'x' * 20_000_000)",
        "import os\nfor _ in range(60):\n    os.write(2, b'a line\\n' * 1000)",
        "for _ in range(60_000):\n    print('a line')",
        "print('x' * 20_000_000, end='')",
        "import subprocess\nsubprocess.run(['seq', '300000'], check=True)",
    ],
    ids=["no newline", "raw lines", "printed lines", "printed", "another program"],
)
def test_output_is_truncated_with_one_event(history, code):
    """The run succeeds; the number and the length of its lines are bounded."""
    history.python("0001_a", code)
    history.table("0002_b", "made_b")
    run = carried("testapp")
    assert run.state is RunState.SUCCEEDED
    found = recorded(run)
    kinds = [kind for kind, _, _ in found]
    assert kinds.count(EventKind.OUTPUT_TRUNCATED) == 1
    assert kinds.count(EventKind.OUTPUT) <= MOST_LINES
    assert sum(len(text) for _, text, _ in found) <= MOST_CHARACTERS * 1.1
    assert max(len(text) for _, text, _ in found) <= LONGEST_LINE
    assert kinds.index(EventKind.OUTPUT_TRUNCATED) < kinds.index(EventKind.STEP_FINISHED)
    assert kinds.count(EventKind.STEP_FINISHED) == 2  # later output is recorded as usual


@pytest.mark.parametrize(
    "code",
    [
        "raise ValueError('y' * 5_000_000)",
        "raise ValueError('y') from OSError('z' * 5_000_000)",
    ],
)
def test_a_huge_error_is_recorded_in_part(history, code):
    """Row, events, entries and response stay small; the traceback keeps its start and its
    end."""
    history.python("0001_a", code)
    run = carried("testapp")
    assert run.state is RunState.FAILED
    row = Run.objects.get(pk=run.id)
    assert len(row.error) + len(row.steps) < 20_000
    assert len(to_json(run_answer(run))) < 20_000
    assert (
        sum(len(str(entry.facts)) for entry in list_entries(before=None, limit=50)) < 50_000
    )
    (facts,) = [facts for kind, _, facts in recorded(run) if kind == EventKind.ERROR]
    assert len(facts) < 50_000
    assert "in work" in facts
    assert "ValueError" in facts


def test_long_statements_are_shortened_once_there_are_too_many(history):
    """A hundred megabytes of SQL become about ten, and every statement is still listed."""
    sql = "'SELECT 1 -- ' + 'x' * 19_000"
    history.write("0001_a", *[f"migrations.RunSQL([{sql}] * 100)"] * 10)
    run = carried("testapp")
    assert run.state is RunState.SUCCEEDED
    texts = [text for kind, text, _ in recorded(run) if kind == EventKind.STATEMENT]
    assert len([text for text in texts if "SELECT 1 -- x" in text]) == 1000
    assert sum(map(len, texts)) < 11_000_000
