"""The messages between a supervisor and its worker, as JSON lines.

The worker sends `Message` lines. The supervisor sends one `WorkOrder` at the start and one
`GateReply` per question.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from migration_route.ledger.step_evidence import NONE_ADDED, AddedOperations
from migration_route.vendors.base_rehearsal import Separation

Kind = Literal[
    "gate",  # a step is ready to start: go, or stop?
    "operation_gate",  # an operation starts or returns: wait until that is recorded
    "session_gate",  # a session was opened and has the lock: may the worker use it?
    "step_finished",
    "operation_started",
    "operation_finished",
    "statement_started",
    "statement",
    "progress",  # of the Python that runs: `count` of `facts["total"]`
    "statements_omitted",
    "touching",  # the first writing statement of a step is about to be sent
    "wrote",  # the first writing statement of a step has completed
    "lock_attempt",  # other sessions blocked an attempt: `facts` has the blockers
    "lock_pause",  # the step waits for locks: keep waiting, or stop?
    "lock_fired",  # a statement was sent after a wait; after `duration_ms` it has its locks
    "index_dropped",  # an invalid index, before the step creates it again
    "watched",  # in a rehearsal: what was observed of the operations of a step
    "denied",  # in a rehearsal: access outside the copy that was denied
    "unrehearsed",  # in a rehearsal in place: what was skipped, and why
    "output",
    "ended",
]

Ending = Literal["done", "failed", "stopped", "plan_changed", "lock_timeout"]


class WorkerFailure(Struct, frozen=True, kw_only=True):
    """The exception that ended the worker."""

    type: str
    message: str
    sqlstate: str | None = None
    traceback: str = ""


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One report or question of the worker."""

    kind: Kind
    at: str
    app: str = ""
    name: str = ""
    operation: int | None = None
    duration_ms: int | None = None
    text: str = ""
    stream: str = ""
    count: int = 0  # of statements; at a gate, of the source's earlier operations
    added: AddedOperations = NONE_ADDED  # at a gate: operations of other packages
    returned: bool = False  # at a gate: the operation is done, possibly uncommitted
    facts: dict[str, Any] = {}
    question: int = 0  # its number if it waits for an answer; 0: none expected
    ending: Ending | None = None
    failure: WorkerFailure | None = None


class ScratchDatabase(Struct, frozen=True, kw_only=True):
    """The copy that a rehearsal works on: a database created for it, or the database of
    another alias. `separation` has the identities of both databases, as the server reports
    them."""

    name: str = ""
    alias: str = ""
    separation: Separation


class InPlaceLimits(Struct, frozen=True, kw_only=True):
    """The time limits of a rehearsal in place, in seconds."""

    limit: float  # from the first step to the rollback
    lock_timeout: float  # of each statement


class WorkOrder(Struct, frozen=True, kw_only=True):
    """Everything the worker is to carry out."""

    run: str
    database: str
    direction: str
    mode: str
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]  # app, name, digest of the source
    rebuild_invalid_indexes: bool = False
    phase: str = ""  # the requested phase; "" for all
    left_out: tuple[tuple[str, str, str], ...] = ()  # by that phase, as in `steps`
    done_operations: int | None = None  # of the first step, completed by the resumed run
    added: AddedOperations = NONE_ADDED  # to that step, as that run found them
    scratch: ScratchDatabase | None = None  # None: work on the database itself
    in_place: InPlaceLimits | None = None  # set: roll everything back


class GateReply(Struct, frozen=True, kw_only=True):
    """The answer of the supervisor to one question of the worker."""

    go: bool
    question: int = 0  # the number of the question it answers
    renew_forecast: bool = False  # ask again, with the tables that the step rewrites
