"""What do a supervisor and its worker say to each other?

The worker sends one `Message` a line; the supervisor answers with one `Order` when the
run begins, and one `Answer` at each gate.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from migration_route.ledger.evidence import NONE_ADDED, AddedOperations
from migration_route.vendors.base_identity import Separation

Kind = Literal[
    "gate",  # a step wants to begin: go, or stop?
    "operation_gate",  # an operation wants to begin, or to return: wait until it is known
    "session_gate",  # a session was opened and locked: may the worker use it?
    "step_finished",
    "operation_started",
    "operation_finished",
    "statement_started",
    "statement",
    "statements_omitted",
    "touching",  # the first writing statement of a step is about to be sent
    "wrote",  # the first writing statement of a step has been carried out
    "lock_attempt",  # others were in the way: `facts` say who, and what was tried
    "lock_pause",  # the step waits for locks: may it go on waiting, or stop?
    "lock_fired",  # it waits no more: without news for `duration_ms`, it has its locks
    "index_dropped",  # an invalid one, before the step makes it anew
    "watched",  # in a rehearsal: what was seen of the operations of a step
    "denied",  # in a rehearsal: what a migration wanted beyond the copy
    "unrehearsed",  # in a rehearsal in place: what was left out, and why
    "output",
    "ended",
]

Ending = Literal["done", "failed", "stopped", "plan_changed", "lock_timeout"]


class Failure(Struct, frozen=True, kw_only=True):
    """What went wrong in the worker."""

    type: str
    message: str
    sqlstate: str | None = None
    traceback: str = ""


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened in the worker."""

    kind: Kind
    at: str
    app: str = ""
    name: str = ""
    operation: int | None = None
    duration_ms: int | None = None
    text: str = ""
    stream: str = ""
    count: int = 0  # of statements; at a gate, of the source's operations that came before
    added: AddedOperations = NONE_ADDED  # at a gate: those of other packages
    returned: bool = False  # at a gate: the operation is done, and may not be committed
    facts: dict[str, Any] = {}
    question: int = 0  # the number of one that waits for an answer; 0: it does not
    ending: Ending | None = None
    failure: Failure | None = None


class ScratchDatabase(Struct, frozen=True, kw_only=True):
    """The copy that a rehearsal is carried out on: a database that was made for it, or
    an alias that the settings name. `separation` is what the server says of both."""

    name: str = ""
    alias: str = ""
    separation: Separation


class InPlaceLimits(Struct, frozen=True, kw_only=True):
    """How long a rehearsal in place may go on, in seconds."""

    limit: float  # from the first step to the rollback
    lock_timeout: float  # of each statement, for its locks


class WorkOrder(Struct, frozen=True, kw_only=True):
    """What the worker is to carry out, and nothing else."""

    run: str
    database: str
    direction: str
    mode: str
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]  # app, name, digest of the source
    rebuild_invalid_indexes: bool = False
    phase: str = ""  # the one that was asked for; "" for everything
    left_out: tuple[tuple[str, str, str], ...] = ()  # by that phase, as in `steps`
    done_operations: int | None = None  # of the first step, by the run that is resumed
    added: AddedOperations = NONE_ADDED  # of that step, as that run has met them
    scratch: ScratchDatabase | None = (
        None  # the copy to work on; None: on the database itself
    )
    in_place: InPlaceLimits | None = None  # within these, and nothing of it is to stay


class GateReply(Struct, frozen=True, kw_only=True):
    """Whether the step at the gate may begin."""

    go: bool
    question: int = 0  # the one that it answers
    foretell: bool = False  # first come again, and say which tables it writes anew
