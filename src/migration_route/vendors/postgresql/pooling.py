"""Does each connection have a session for itself, or does a pooler hand one to many?

A pooler of transactions gives a session to whoever begins one. An advisory lock, like
every setting of the session, then belongs to nobody.
"""

from __future__ import annotations

from uuid import uuid4

from django.db.backends.base.base import BaseDatabaseWrapper

_ROUNDS = 3
_CANARY = "migration_route.canary"
_SET = "SELECT set_config(%s, %s, false)"
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
