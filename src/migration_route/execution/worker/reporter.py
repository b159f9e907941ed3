"""What does the worker tell its supervisor?

Every step, operation and statement, and each line of output; a flood of statements is
counted after the first hundred of an operation. Secrets stay here.
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
from migration_route.core.redaction import clipped
from migration_route.core.values import Impact
from migration_route.execution.messages import GateReply, Message
from migration_route.execution.worker.operation_positions import Place
from migration_route.execution.worker.output import OutputBudget
from migration_route.planning.impact import forecast_rewrites, impact_of_step
from migration_route.planning.planner import describe_operation
from migration_route.planning.sql import AT_THE_END

_STATEMENTS_SHOWN = 100
_LONGEST_TEXT = 20_000
_TEMPLATES = 16  # of the latest statements: one that waits for its locks is sent again
_READING = frozenset({"select", "show", "explain", "pragma", "savepoint", "release", "set"})


class RunStopped(BaseException):
    """The supervisor let no further step begin. Not an `Exception`: nothing that a
    project wraps around its migrations should swallow it."""


class Reporter:
    """The observer of a run that speaks into a pipe."""

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
        self._is_torn = False
        self._operation: int | None = None
        self._shown = self._omitted = self._omitted_ms = 0
        self._touching = self._wrote = False

    def send(self, message: Message) -> None:
        """Send one message, whole."""
        line = msgspec.json.encode(message) + b"\n"
        with self._lock:
            # A message that an interrupt has torn must not tear the next one.
            line = b"\n" + line if self._is_torn else line
            self._is_torn = True
            while line:
                line = line[os.write(self._pipe, line) :]
            self._is_torn = False

    def _say(self, kind: str, **facts: object) -> None:
        self.send(Message(kind=kind, at=clock.now(), **facts))  # type: ignore[arg-type]

    def _exchange(self, kind: str, **facts: object) -> GateReply:
        """Ask the supervisor, and wait for the answer to this question: one that an
        interrupt has kept from being read is not taken for it."""
        with self._asking:
            self._questions += 1
            number = self._questions
            self._say(kind, question=number, **facts)
            while (answer := self._ask()).question != number:
                pass
            return answer

    def session_opens(self) -> None:
        """Wait until it is sure that a session which was opened may be used: the run may
        be over while this process was cut off or frozen. Raises `Stopped`."""
        if not self._exchange("session_gate").go:
            raise RunStopped

    def output(self, stream: str, line: str) -> None:
        """Send a line that was printed, its secrets masked; the line that exceeds the
        budget is the last one, and the supervisor records that output is left out."""
        if not self._output.is_spent:
            self._output.admits(line)
            self._say("output", stream=stream, text=line)

    # --- the observer -----------------------------------------------------------------

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        """Wait at the gate, having told what the step has to do with: the intent is on
        record before anything is sent."""
        touched = impact_of_step(migration, state, backwards=backwards)
        answer = self._come_to_gate(migration, touched)
        if answer.foretell:
            rewritten, unforeseen = forecast_rewrites(
                migration, state, self._database, backwards=backwards
            )
            known = replace(touched, rewritten=rewritten, unforeseen=unforeseen)
            answer = self._come_to_gate(migration, known)
        if not answer.go:
            raise RunStopped
        self._operation = None
        self._shown = self._omitted = self._omitted_ms = 0
        self._touching = self._wrote = False

    def _come_to_gate(self, migration: Migration, touched: Impact) -> GateReply:
        return self._exchange(
            "gate",
            app=migration.app_label,
            name=migration.name,
            facts=touched.to_dict(),
        )

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        """Tell that a step is committed and recorded."""
        self._tell_omitted()
        self._say(
            "step_finished",
            app=migration.app_label,
            name=migration.name,
            duration_ms=duration_ms,
        )

    def operation_started(self, position: int | None, operation: Operation) -> None:
        """Tell which operation comes now."""
        self._tell_omitted()
        self._operation = position
        self._shown = 0
        text = self.mask(describe_operation(operation))
        self._say("operation_started", operation=position, text=text)

    def operation_finished(self, position: int | None, duration_ms: int) -> None:
        """Tell how long an operation took."""
        self._tell_omitted()
        self._say("operation_finished", operation=position, duration_ms=duration_ms)
        self._operation = None
        self._shown = 0

    def operation_begins(self, place: Place, operation: Operation) -> None:
        """Wait until it is on record that an operation begins, and what came before it."""
        self._tell_omitted()
        self._shown, self._wrote = 0, False
        self._pass_gate(place, text=self.mask(describe_operation(operation)))
        self._operation = place.position

    def operation_returns(self, place: Place, duration_ms: int) -> None:
        """Wait until it is on record that all of an operation has been carried out."""
        self._tell_omitted()
        self._pass_gate(place, duration_ms=duration_ms, returned=True)
        self._operation = None
        self._shown = 0

    def step_ends(self, place: Place) -> None:
        """Wait until it is on record that every operation has been carried out."""
        self._tell_omitted()
        self._shown, self._wrote = 0, False
        self._pass_gate(place, text=AT_THE_END)

    def _pass_gate(self, place: Place, **facts: object) -> None:
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
        """Tell before the first statement that may change something, and what runs."""
        if not self._touching and not only_reads(sql):
            self._touching = True
            self._say("touching")
        if self._shown < _STATEMENTS_SHOWN:
            self._say(
                "statement_started", operation=self._operation, text=self._shown_as(sql)
            )

    def statement_finished(
        self, sql: str, duration_ms: int, error: Exception | None
    ) -> None:
        """Tell a statement with its time, or count it."""
        if error is None and not self._wrote and not only_reads(sql):
            self._wrote = True
            self._say("wrote")
        if self._shown >= _STATEMENTS_SHOWN:
            self._omitted += 1
            self._omitted_ms += duration_ms
            return
        self._shown += 1
        self._say(
            "statement",
            operation=self._operation,
            duration_ms=duration_ms,
            text=self._shown_as(sql),
        )

    def lock_attempt(self, facts: dict[str, Any]) -> None:
        """Tell that others were in the way of a statement."""
        self._say("lock_attempt", operation=self._operation, facts=self._unsecret(facts))

    def lock_pause(self, facts: dict[str, Any]) -> None:
        """Ask whether the step may go on waiting for its locks. Raises `Stopped`."""
        shown = self._unsecret(facts)
        if not self._exchange("lock_pause", operation=self._operation, facts=shown).go:
            raise RunStopped

    def lock_fired(self, duration_ms: int) -> None:
        """Tell that a statement which has waited is sent, and how long it may wait."""
        self._say("lock_fired", duration_ms=duration_ms)

    def _unsecret(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the facts of an attempt without secrets in other people's queries."""
        blockers = [
            {**blocker, "query": self.mask(blocker["query"])}
            for blocker in facts["blockers"]
        ]
        return {**facts, "blockers": blockers}

    def index_dropped(self, sql: str) -> None:
        """Tell that an invalid index is about to be dropped."""
        self._say("index_dropped", operation=self._operation, text=self.mask(sql))

    def watched(self, operations: list[dict[str, Any]]) -> None:
        """Tell what was seen of the operations of a step, in a rehearsal."""
        self._say("watched", facts={"operations": operations})

    def denied(self, what: str) -> None:
        """Tell what a migration wanted beyond the copy that it is rehearsed on."""
        self._say("denied", text=self.mask(what))

    def unrehearsed(self, code: str, text: str, migration: Migration | None = None) -> None:
        """Tell what a rehearsal in place leaves out, of a step or in all."""
        self._say(
            "unrehearsed",
            app=migration.app_label if migration else "",
            name=migration.name if migration else "",
            text=self.mask(text),
            facts={"code": code},
        )

    def _tell_omitted(self) -> None:
        if self._omitted:
            self._say(
                "statements_omitted",
                operation=self._operation,
                count=self._omitted,
                duration_ms=self._omitted_ms,
            )
        self._omitted = self._omitted_ms = 0

    def remember_template(self, statement: str, template: str) -> None:
        """Note of which SQL with placeholders a statement with its values was composed."""
        if len(self._templates) >= _TEMPLATES:
            del self._templates[next(iter(self._templates))]
        self._templates[statement] = template

    def template_of(self, sql: str) -> str:
        """Return a statement with placeholders where its parameters are."""
        return self._templates.get(sql, sql)

    def _shown_as(self, sql: str) -> str:
        return self.mask(self.template_of(sql))

    def mask(self, text: str) -> str:
        """Return a text as it may leave the worker: without secrets, in good UTF-8, and of
        bounded length."""
        return clipped(text, _LONGEST_TEXT)


@contextmanager
def placeholders_kept(alias: str, reporter: Reporter) -> Iterator[None]:
    """Let the reporter know the placeholders of statements that a schema editor composes
    with their values before it sends them, as that of PostgreSQL does."""
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


def only_reads(sql: str) -> bool:
    """Tell whether a statement changes nothing, by its first word."""
    words = sql.lstrip(" \t\r\n(;").split(None, 1)
    return bool(words) and words[0].lower() in _READING
