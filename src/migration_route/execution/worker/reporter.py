"""Reports every step, operation, statement and line of output from the worker to its
supervisor.

After the first hundred statements of an operation, the rest is counted. Secrets are masked
before anything leaves the worker.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import msgspec
from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.core import clock
from migration_route.core.progress import Throttle
from migration_route.core.redaction import clipped
from migration_route.core.values import Impact
from migration_route.execution.messages import GateReply, Message
from migration_route.execution.worker.instrumentation import MigrationObserver
from migration_route.execution.worker.operation_positions import OperationPosition
from migration_route.execution.worker.output import OutputBudget
from migration_route.planning.impact import forecast_rewrites, impact_of_step
from migration_route.planning.planner import describe_operation
from migration_route.planning.sql import DEFERRED_SQL_DESCRIPTION
from migration_route.vendors.sql_statements import only_reads

_STATEMENTS_SHOWN = 100
_LONGEST_TEXT = 20_000
_TEMPLATES = 16  # of the latest statements: a retried one is sent again


class RunStopped(BaseException):
    """The supervisor does not permit the next step. Not an `Exception`: nothing that a
    project wraps around its migrations should swallow it."""


class Reporter(MigrationObserver):
    """The observer of a run, which writes to a pipe."""

    def __init__(
        self,
        pipe: int,
        database: str,
        ask: Callable[[], GateReply],
    ) -> None:
        self._pipe = pipe
        self._database = database
        self._ask = ask
        self._output = OutputBudget()
        self._templates: dict[str, str] = {}  # by the statement composed of each
        self._lock = threading.Lock()
        self._asking = threading.RLock()  # one question and its answer at a time
        self._questions = 0
        self._is_cut_short = False
        self._operation: int | None = None
        self._shown = self._omitted = self._omitted_ms = 0
        self._touching = self._wrote = False
        self._throttle = Throttle()
        self._is_complete = False  # by the last report of progress

    def send(self, message: Message) -> None:
        """Send one message, undivided."""
        line = msgspec.json.encode(message) + b"\n"
        with self._lock:
            # A message cut short by an interrupt must not corrupt the next one.
            line = b"\n" + line if self._is_cut_short else line
            self._is_cut_short = True
            while line:
                line = line[os.write(self._pipe, line) :]
            self._is_cut_short = False

    def _report(self, kind: str, **facts: object) -> None:
        self.send(Message(kind=kind, at=clock.now(), **facts))  # type: ignore[arg-type]

    def _exchange(self, kind: str, **facts: object) -> GateReply:
        """Ask the supervisor and wait for the answer to this question. An answer to an
        earlier question, left unread because of an interrupt, is skipped."""
        with self._asking:
            self._questions += 1
            number = self._questions
            self._report(kind, question=number, **facts)
            while (answer := self._ask()).question != number:
                pass
            return answer

    def session_opens(self) -> None:
        """Wait until the supervisor confirms that a new session may be used: the run may
        have ended while this process was cut off or frozen. Raises `RunStopped`."""
        if not self._exchange("session_gate").go:
            raise RunStopped

    def output(self, stream: str, line: str) -> None:
        """Send a printed line, with secrets masked. The line that exceeds the budget is the
        last one; the supervisor records that output is truncated."""
        if not self._output.is_spent:
            self._output.admits(line)
            self._report("output", stream=stream, text=line)

    def progress(self, done: int, total: int | None) -> None:
        """Send how far the running Python is; the first report that all is done always."""
        is_complete = total is not None and done >= total
        is_first = is_complete and not self._is_complete
        self._is_complete = is_complete
        if is_first or self._throttle.is_due():
            self._report(
                "progress", operation=self._operation, count=done, facts={"total": total}
            )

    # --- the observer -----------------------------------------------------------------

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        """Report what the step affects and wait at the gate: the intent is recorded before
        anything is sent."""
        touched = impact_of_step(migration, state, backwards=backwards)
        answer = self._ask_at_gate(migration, touched)
        if answer.renew_forecast:
            rewritten, unforecast = forecast_rewrites(
                migration, state, self._database, backwards=backwards
            )
            known = replace(touched, rewritten=rewritten, unforecast=unforecast)
            answer = self._ask_at_gate(migration, known)
        if not answer.go:
            raise RunStopped
        self._operation = None
        self._shown = self._omitted = self._omitted_ms = 0
        self._touching = self._wrote = False

    def _ask_at_gate(self, migration: Migration, touched: Impact) -> GateReply:
        return self._exchange(
            "gate",
            app=migration.app_label,
            name=migration.name,
            facts=touched.to_dict(),
        )

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        self._report_omitted()
        self._report(
            "step_finished",
            app=migration.app_label,
            name=migration.name,
            duration_ms=duration_ms,
        )

    def operation_started(self, position: int | None, operation: Operation) -> None:
        self._report_omitted()
        self._operation = position
        self._shown = 0
        self._throttle.restart()
        self._is_complete = False
        text = self.mask(describe_operation(operation))
        self._report("operation_started", operation=position, text=text)

    def operation_finished(self, position: int | None, duration_ms: int) -> None:
        self._report_omitted()
        self._report("operation_finished", operation=position, duration_ms=duration_ms)
        self._operation = None
        self._shown = 0

    def operation_begins(self, place: OperationPosition, operation: Operation) -> None:
        """Wait until the start of an operation is recorded, and what came before it."""
        self._report_omitted()
        self._shown, self._wrote = 0, False
        self._pass_gate(place, text=self.mask(describe_operation(operation)))
        self._operation = place.position
        self._throttle.restart()
        self._is_complete = False

    def operation_returns(self, place: OperationPosition, duration_ms: int) -> None:
        """Wait until it is recorded that an operation is complete."""
        self._report_omitted()
        self._pass_gate(place, duration_ms=duration_ms, returned=True)
        self._operation = None
        self._shown = 0

    def step_ends(self, place: OperationPosition) -> None:
        """Wait until it is recorded that every operation is complete."""
        self._report_omitted()
        self._shown, self._wrote = 0, False
        self._pass_gate(place, text=DEFERRED_SQL_DESCRIPTION)

    def _pass_gate(self, place: OperationPosition, **facts: object) -> None:
        answer = self._exchange(
            "operation_gate",
            operation=place.position,
            count=place.count,
            added=place.added,
            **facts,
        )
        if not answer.go:
            raise RunStopped

    def statement_starts(self, sql: str) -> None:
        """Report the first statement that may change something, and the current
        statement."""
        if not self._touching and not only_reads(sql):
            self._touching = True
            self._report("touching")
        if self._shown < _STATEMENTS_SHOWN:
            self._report(
                "statement_started", operation=self._operation, text=self._shown_as(sql)
            )

    def statement_finished(
        self, sql: str, duration_ms: int, error: Exception | None
    ) -> None:
        """Report a statement with its duration, or count it."""
        if error is None and not self._wrote and not only_reads(sql):
            self._wrote = True
            self._report("wrote")
        if self._shown >= _STATEMENTS_SHOWN:
            self._omitted += 1
            self._omitted_ms += duration_ms
            return
        self._shown += 1
        self._report(
            "statement",
            operation=self._operation,
            duration_ms=duration_ms,
            text=self._shown_as(sql),
        )

    def lock_attempt(self, facts: dict[str, Any]) -> None:
        self._report(
            "lock_attempt", operation=self._operation, facts=self._masked_facts(facts)
        )

    def lock_pause(self, facts: dict[str, Any]) -> None:
        """Ask whether the step may keep waiting for its locks. Raises `RunStopped`."""
        shown = self._masked_facts(facts)
        if not self._exchange("lock_pause", operation=self._operation, facts=shown).go:
            raise RunStopped

    def lock_fired(self, duration_ms: int) -> None:
        """Report that a statement is sent after a wait, and how long it may wait."""
        self._report("lock_fired", duration_ms=duration_ms)

    def _masked_facts(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Mask secrets in the queries of other sessions."""
        blockers = [
            {**blocker, "query": self.mask(blocker["query"])}
            for blocker in facts["blockers"]
        ]
        return {**facts, "blockers": blockers}

    def index_dropped(self, sql: str) -> None:
        self._report("index_dropped", operation=self._operation, text=self.mask(sql))

    def watched(
        self, operations: list[dict[str, Any]], differences: tuple[str, ...]
    ) -> None:
        """Report what was observed of the operations of a step, in a rehearsal, and how
        their statements differ from the plan."""
        shown = [self.mask(line) for line in differences]
        self._report("watched", facts={"operations": operations, "differences": shown})

    def denied(self, what: str) -> None:
        """Report an access outside the copy that was denied."""
        self._report("denied", text=self.mask(what))

    def unrehearsed(self, code: str, text: str, migration: Migration | None = None) -> None:
        """Report what a rehearsal in place skips, of a step or in general."""
        self._report(
            "unrehearsed",
            app=migration.app_label if migration else "",
            name=migration.name if migration else "",
            text=self.mask(text),
            facts={"code": code},
        )

    def _report_omitted(self) -> None:
        if self._omitted:
            self._report(
                "statements_omitted",
                operation=self._operation,
                count=self._omitted,
                duration_ms=self._omitted_ms,
            )
        self._omitted = self._omitted_ms = 0

    def remember_template(self, statement: str, template: str) -> None:
        """Remember the SQL with placeholders that a statement with values was composed
        from."""
        if len(self._templates) >= _TEMPLATES:
            del self._templates[next(iter(self._templates))]
        self._templates[statement] = template

    def template_of(self, sql: str) -> str:
        """Return a statement with placeholders for its parameters."""
        return self._templates.get(sql, sql)

    def _shown_as(self, sql: str) -> str:
        return self.mask(self.template_of(sql))

    def mask(self, text: str) -> str:
        """Return a text that may leave the worker: without secrets, in valid UTF-8, of
        bounded length."""
        return clipped(text, _LONGEST_TEXT)


@contextmanager
def keep_placeholders(alias: str, reporter: Reporter) -> Iterator[None]:
    """Let the reporter remember the placeholders of statements that a schema editor
    composes with their values before it sends them, as that of PostgreSQL does."""
    operations: Any = type(connections[alias].ops)
    compose = getattr(operations, "compose_sql", None)
    if compose is None:
        yield
        return

    def composed(self: Any, sql: str, params: Any) -> str:
        statement: str = compose(self, sql, params)
        if params:
            reporter.remember_template(statement, sql)
        return statement

    operations.compose_sql = composed
    try:
        yield
    finally:
        operations.compose_sql = compose
