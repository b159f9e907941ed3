"""Who was turned away, and why? A denial is on the ledger as well."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError

from migration_route.access.actor import Actor
from migration_route.errors import (
    DatabaseUnavailable,
    Forbidden,
    InvalidRequest,
    Refused,
    RouteError,
    Unauthenticated,
)
from migration_route.ledger.entries import Draft, note, tell
from migration_route.ledger.reading import database_of
from migration_route.operations.ids import checked
from migration_route.operations.old_secrets import note_use
from migration_route.operations.strangers import Attempt, Strangers
from migration_route.planning import sources
from migration_route.vendors.refusals import refusal_of
from migration_route.vocabulary import Action

logger = logging.getLogger("migration_route.operations")
strangers = Strangers()
_is_within: ContextVar[bool] = ContextVar("on_record", default=False)


@contextmanager
def on_record(
    actor: Actor, verb: str, *, database: str = "", run: str = ""
) -> Iterator[None]:
    """Note on the ledger what the block denies or refuses to the actor.

    What a caller without a name is denied is noted as `operations.strangers` tells.

    Raises `DatabaseUnavailable` where a database does not answer in the block, or refuses
    what the block needs: a privilege, a write, a file beside it.
    """
    if _is_within.get():
        yield  # what the outermost block was asked for is what is noted
        return
    note_use(actor, verb)
    token = _is_within.set(True)
    try:
        yield
    except (Unauthenticated, Forbidden) as error:
        _note(Action.DENIED, error, actor, verb, database, run)
        raise
    except Refused as error:
        _note(Action.REFUSED, error, actor, verb, database, run)
        raise
    except (DatabaseFailure, OSError) as error:
        if (unavailable := _as_unavailable(error)) is None:
            raise
        # What the driver says may name hosts and users: it is for the log alone.
        logger.warning("%s could not use a database", verb, exc_info=True)
        raise unavailable from error
    finally:
        _is_within.reset(token)


def _as_unavailable(error: Exception) -> DatabaseUnavailable | None:
    """Return what to tell of an error of a database; None for one that is no answer to
    the caller, but a fault."""
    if refusal := refusal_of(error):
        return DatabaseUnavailable(refusal.message, hint=refusal.hint)
    if not isinstance(error, OperationalError | InterfaceError):
        return None
    return DatabaseUnavailable(
        "A database could not be read or written.",
        hint="If a migration holds it, ask again later; the server's log has the rest.",
    )


def _note(
    action: Action, error: RouteError, actor: Actor, verb: str, database: str, run: str
) -> None:
    draft = Draft(
        action=action,
        actor_kind=actor.kind,
        actor_name=_printable(actor.name, 200),
        address=actor.address,
        database=_printable(database or _database_of(run, error), 200),
        run=_printable(run, 32),
        build=sources.build(),
        facts={
            "verb": verb,
            "code": error.code,
            "message": _printable(error.message, 500),
            **({"credential": actor.credential_facts} if actor.credential else {}),
        },
    )
    if actor.name:
        note(draft)
        return
    left_out = strangers.admit(
        Attempt(kind=actor.kind, address=actor.address, verb=verb, code=error.code)
    )
    if left_out is None:
        tell(draft)
        return
    told = {"left_out": left_out.same, "left_out_elsewhere": left_out.elsewhere}
    note(replace(draft, facts={**draft.facts, **told}))


def _database_of(run: str, error: RouteError) -> str:
    """Return the database that a denial or refusal is about: that of the run which was
    named; "" where none was, there is no such run, or the ledger does not answer."""
    named = run or str(error.facts.get("run") or "")
    try:
        return database_of(checked(named, of="run")) if named else ""
    except (InvalidRequest, DatabaseUnavailable):
        return ""


def _printable(text: str, length: int) -> str:
    """Return what a caller sent as every database can store it."""
    return "".join(sign if sign.isprintable() else "�" for sign in text[:length])
