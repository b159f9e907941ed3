"""The causes for which a database refuses reads or writes, by the code of its error.

A driver's message may contain hosts and users, so it is only logged. The causes are shown:
what was refused, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass

_PRIVILEGE = (
    "The database role of this connection lacks a privilege",
    "Grant it what `manage.py migrate` needs (CREATE, and all on the tables of "
    "migration_route), or set LEDGER_DATABASE to another database.",
)
_READ_ONLY = (
    "The database accepts no writes from this connection: it is read-only",
    "Check for a replica, `default_transaction_read_only`, `read_only`, and a file or a "
    "directory without write permission.",
)
_FULL = ("The database has no space left", "Free space on its disk, or raise its limit.")
_FILE = (
    "The database file, or a file beside it, cannot be used",
    "Let the user of this process read and write the file and its directory.",
)
_NO_SCHEMA = (
    "The database has no schema in which the role may create tables",
    "Grant USAGE and CREATE on the schema of the migration_route tables, or set "
    "search_path.",
)
_PASSWORD = (
    "The database rejected the role of this connection",
    "Compare USER and PASSWORD in DATABASES with the server's accounts.",
)
_BY_SQLSTATE = {  # PostgreSQL, Appendix A
    "42501": _PRIVILEGE,
    "25006": _READ_ONLY,
    "53100": _FULL,
    "3F000": _NO_SCHEMA,
    "28000": _PASSWORD,
    "28P01": _PASSWORD,
}
_BY_NUMBER = {  # MySQL and MariaDB, server error reference
    **dict.fromkeys((1044, 1142, 1143, 1227, 1370), _PRIVILEGE),
    **dict.fromkeys((1290, 1792, 1836), _READ_ONLY),
    **dict.fromkeys((1021, 1041, 1114), _FULL),
    **dict.fromkeys((1045, 1698), _PASSWORD),
}
_BY_NAME = {  # SQLite, result codes; an extended one starts with its primary one
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_FULL": _FULL,
    "SQLITE_CANTOPEN": _FILE,
    "SQLITE_PERM": _FILE,
    "SQLITE_AUTH": _FILE,
    "SQLITE_IOERR": _FILE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRefusal:
    """Why a database refused an operation, and what to do about it."""

    message: str
    hint: str


def refusal_of(error: BaseException) -> DatabaseRefusal | None:
    """Return why a database refused an operation; None for any other error.

    Examines what the driver raised, below Django's own exception.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.filename:
            message, hint = _FILE
            return DatabaseRefusal(
                message=f"{message}: {cause.filename}: {cause.strerror}.", hint=hint
            )
        if (known := _known(cause)) is not None:
            message, hint = known
            return DatabaseRefusal(message=f"{message}{_object(cause)}.", hint=hint)
        cause = cause.__cause__ or cause.__context__
    return None


def _known(error: BaseException) -> tuple[str, str] | None:
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state in _BY_SQLSTATE:
        return _BY_SQLSTATE[state]
    name = getattr(error, "sqlite_errorname", None) or ""
    for primary, found in _BY_NAME.items():
        if name == primary or name.startswith(f"{primary}_"):
            return found
    number = error.args[0] if error.args else None
    # psycopg and sqlite3 set a text here; MySQLdb and PyMySQL the server's number.
    return _BY_NUMBER.get(number) if isinstance(number, int) else None


def _object(error: BaseException) -> str:
    """Return the one-line message of PostgreSQL for states in which it names an object of
    the database, and neither host nor role."""
    diagnostics = getattr(error, "diag", None)
    primary = getattr(diagnostics, "message_primary", None) if diagnostics else None
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return f" ({primary})" if primary and state in {"42501", "25006", "3F000"} else ""
