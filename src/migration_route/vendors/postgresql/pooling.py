"""Does each connection have a session for itself, or does a pooler hand one to many?

A pooler of transactions gives a session to whoever begins one. An advisory lock, like
every setting of the session, then belongs to nobody.
"""

from __future__ import annotations

import time
from uuid import uuid4

from django.db.backends.base.base import BaseDatabaseWrapper

_ENDS_WITHIN = 1.5  # seconds that a session may take to end after its connection
_LOOK = 0.02
_ROUNDS = 3
_CANARY = "migration_route.canary"
_SET = "SELECT set_config(%s, %s, false)"
_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
_RESET_NAME = "SELECT set_config('application_name', reset_val, false) FROM pg_settings "
_RESET_NAME += "WHERE name = 'application_name'"
_SEE = "SELECT current_setting(%s, true)"


def have_own_sessions(first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
    """Tell whether two connections that are open at once keep to a backend each.

    The pids are asked for in turns: a pooler gives the second what the first has just
    given back, or, where others come between, gives the first another one next time.
    """
    pids = (_pid(first), _pid(second))
    if pids[0] == pids[1]:
        return False
    if any((_pid(first), _pid(second)) != pids for _ in range(_ROUNDS)):
        return False
    return _keeps_to_itself(first, second)


def ends_with_connection(first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
    """Tell whether nothing of a session is left when `first`, its connection, is closed.

    A pool below Django keeps the session with all that it holds. A pooler in session mode
    keeps it as well, but resets it. The name of the application tells them apart: it is
    seen by `second`, whichever session that one is given. One connection is open at a
    time: a pool may hold no more.
    """
    canary = f"migration-route {uuid4().hex}"
    _ask(first, _SET, "application_name", canary)
    first.close()
    deadline = time.monotonic() + _ENDS_WITHIN
    try:
        while _ask(second, _COUNT, canary) != "0":
            if _ask(second, _SEE, "application_name") == canary:
                _ask(second, _RESET_NAME)
                return False
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK)
        return True
    finally:
        second.close()


def _pid(connection: BaseDatabaseWrapper) -> int:
    return int(_ask(connection, "SELECT pg_backend_pid()"))


def _keeps_to_itself(first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
    """Tell whether what is set on one is there, and only there."""
    canary = uuid4().hex
    _ask(first, _SET, _CANARY, canary)
    try:
        return (
            _ask(first, _SEE, _CANARY) == canary and _ask(second, _SEE, _CANARY) != canary
        )
    finally:
        _ask(first, _SET, _CANARY, "")


def _ask(connection: BaseDatabaseWrapper, sql: str, *values: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        (answer,) = cursor.fetchone()
    return str(answer)
