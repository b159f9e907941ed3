"""Redacts secrets and row values in every text that is recorded, sent or shown.

One redactor, built from the settings of the project, serves the supervisor, the worker and
the interfaces. It masks the secrets of the settings, and text that looks like a secret.

Databases put row values into their errors: PostgreSQL into DETAIL and CONTEXT, MySQL and
SQLite into the message itself. Permanent records and outgoing messages contain only the
primary message, without its values, and the error code.
"""

from __future__ import annotations

import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.db import Error as DatabaseFailure

from migration_route.core.secret_patterns import Redactor

_SHORTEST = 6  # a shorter password also occurs as an ordinary word
_SHORTEST_GUESSED = 8  # of a setting that is a secret only by its name
_DEEPEST = 8
_LONGEST_LIST = 1000

_PASSWORD = re.compile(r"pass(?:word|wd|phrase)?$|^secret", re.IGNORECASE)
_GUESSED = re.compile(r"API|TOKEN|KEY|SECRET|PASS|SIGNATURE", re.IGNORECASE)
_NOT_SECRET = re.compile(
    r"KEY_?(?:PREFIX|FUNCTION|FILE)$|_(?:NAME|HEADER|CLASS|BACKEND|TIMEOUT|AGE|LIFETIME)$"
    r"|^(?:PASSWORD_HASHERS|AUTH_PASSWORD_VALIDATORS)$|^sha256$",
    re.IGNORECASE,
)


def secrets_of_settings() -> frozenset[str]:
    """Return every string of the settings that must not be shown."""
    found: set[str] = set()
    is_set = settings.is_overridden  # type: ignore[misc]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that are deprecated
        for name in filter(str.isupper, dir(settings)):
            if is_set(name) and not _NOT_SECRET.search(name):
                value = getattr(settings, name, None)
                found |= set(_secrets_in(name, value, _DEEPEST))
    route = getattr(settings, "MIGRATION_ROUTE", None)
    webhooks = route.get("WEBHOOKS", ()) if isinstance(route, Mapping) else ()
    # The address of a webhook is a secret: it is enough to post to it.
    for webhook in webhooks if isinstance(webhooks, list | tuple) else ():
        if isinstance(webhook, Mapping) and isinstance(webhook.get("url"), str):
            found.add(webhook["url"])
    return frozenset(found)


def _secrets_in(name: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in list(value.items())[:_LONGEST_LIST] if depth else ():
            if isinstance(key, str) and not _NOT_SECRET.search(key):
                yield from _secrets_in(key, inner, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in list(value)[:_LONGEST_LIST] if depth else ():
            yield from _secrets_in(name, inner, depth - 1)
    elif isinstance(value, bytes):
        yield from _secrets_in(name, value.decode(errors="replace"), depth)
    elif isinstance(value, str) and _is_secret(name, value):
        yield value


def _is_secret(name: str, value: str) -> bool:
    if _PASSWORD.search(name):
        return len(value) >= _SHORTEST
    if not _GUESSED.search(name) or len(value) < _SHORTEST_GUESSED:
        return False
    parts = value.split(".")  # the path of a class or a module is not a secret
    is_path = all(part.isidentifier() for part in parts) and parts[0] in sys.modules
    return not (is_path and len(parts) > 1)


@lru_cache(maxsize=1)
def redactor() -> Redactor:
    """Return the redactor of this project, built from its settings on first use."""
    return Redactor(secrets_of_settings())


def _forget(**_: Any) -> None:
    redactor.cache_clear()


setting_changed.connect(_forget, dispatch_uid="migration_route.core.redaction")


def redact(text: str, *, secrets: Iterable[str] | None = None) -> str:
    """Return a text with its secrets masked: those of the settings, or the ones given."""
    return (redactor() if secrets is None else Redactor(secrets)).text(text)


def clipped(text: str, limit: int) -> str:
    """Return a text masked, in UTF-8 that every database can store, and no longer than the
    limit except for the note of what was left out."""
    return storable(redactor().clipped(text, limit))


def storable(text: str) -> str:
    """Return a text without lone surrogates and without NUL, which PostgreSQL rejects."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\ufffd")


def masked_facts(facts: Any) -> Any:
    """Return a JSON value with the secrets in its strings masked, at any depth."""
    if isinstance(facts, str):
        shown = redact(facts)
        return facts if shown == facts else shown  # an enum member stays one
    if isinstance(facts, Mapping):
        return {key: masked_facts(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [masked_facts(value) for value in facts]
    return facts


LONGEST_MESSAGE: Final = 4000
LONGEST_TRACEBACK: Final = 20_000
_READ_AT_MOST: Final = 100_000  # characters of one text that are searched for values
_MOST_CAUSES = 10
_LEFT_OUT = "…"

# PostgreSQL's other fields, where only the whole text is available (libpq, verbosity).
_FIELDS = re.compile(
    r"^(?:DETAIL|HINT|CONTEXT|QUERY|STATEMENT|WHERE|LINE \d+):?.*", re.MULTILINE | re.DOTALL
)
_POSTGRESQL_DATA = re.compile(r'(?P<head>: )".*"', re.DOTALL)

# The values in messages of the servers and of Django itself.
_VALUES: Final = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"Duplicate entry '(?P<value>.*)' for key",
        r"\bvalue:? '(?P<value>.*)'(?= for (?:column|function)|$)",
        r"\brecord '(?P<value>.*)' would lead to",
        r"character string: '(?P<value>.*)'",
        r"value is out of range in '(?P<value>.*)'",
        r"value '(?P<value>.*)' found during parsing",
        r" near '(?P<value>.*)' at line \d+",
        r"at or near \"(?P<value>(?:[EeNn]|U&)?['$].*)\"",
        r"unterminated .{1,60} at or near \"(?P<value>.*)\"",
        r"unrecognized token: \"(?P<value>.*)\"",
        r"near \"(?P<value>['\"].*)\": syntax error",
        r"with primary key '(?P<value>.*?)' has an invalid foreign key",
        r"contains a value '(?P<value>.*?)' that does not have",
        r"Failing row contains \((?P<value>.*)\)",
        r"\bKey \(.{1,500}?\)=\((?P<value>.*)\)(?= already| is | conflicts|\.|\Z|\n)",
        r"duplicate key value is \((?P<value>.*?)\)",
    )
)

# Errors of MySQL and MariaDB that quote only names; any other may quote values (MySQL 8.4
# Error Message Reference; MariaDB Error Code Reference).
_NAMES_ALONE = frozenset(
    {
        *range(1004, 1012), *range(1044, 1055), *range(1056, 1062), 1068, 1072, 1075, 1091,
        1101, 1103, 1109, 1113, 1115, 1118, 1138, 1142, 1143, 1146, 1147, 1161, 1163, 1166,
        1170, 1171, 1176, 1193, 1217, 1227, 1230, 1231, 1235, 1247, 1248, 1263, 1264, 1265,
        1273, 1286, 1293, 1294, 1304, 1305, 1341, 1347, 1348, 1356, 1359, 1360, 1364, 1370,
        1406, 1419, 1449, 1451, 1452, 1553, 1557, 1785, 1821, 1822, 1823, 1824, 1825, 1826,
        1828, 1829, 1830, 1832, 1833, 1834, 1845, 1846, 3780, 3819, 3820, 3821, 3822, 3940,
        4025,
    }
)  # fmt: skip
_SPECIAL = frozenset({1062, 1064, 1586})  # `_VALUES` matches their values
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"[^\"]*\"", re.DOTALL)


def message_of(error: BaseException) -> str:
    """Return the message of an exception: bounded, without row values and secrets."""
    text = str(error)[:_READ_AT_MOST]
    for cause in _chain(error):
        if is_of_database(cause):
            full, primary = str(cause)[:_READ_AT_MOST], _primary(cause)
            if cause is error:
                text = primary
            elif full:
                text = text.replace(full, primary)
    text = without_values(text).strip() or type(error).__name__
    return storable(clipped(text, LONGEST_MESSAGE))


def sqlstate_of(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database error, or MySQL's error number."""
    cause = _driver_error(error)
    code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    if code is None and isinstance(error, DatabaseFailure):
        number = _mysql_number(cause)
        return None if number is None else str(number)
    return code


def traceback_of(error: BaseException, *, with_detail: bool) -> str:
    """Return the traceback of an exception, bounded and without secrets; `with_detail`
    keeps what a database reports about row values."""
    text = "".join(traceback.format_exception(error))
    if len(text) > _READ_AT_MOST:
        text = f"{text[: _READ_AT_MOST // 2]}\n…\n{text[-_READ_AT_MOST // 2 :]}"
    if not with_detail:
        for cause in _chain(error):
            if is_of_database(cause) and (full := str(cause)):
                text = text.replace(full, _primary(cause))
        text = without_values(text)
    return storable(redactor().middle_clipped(text, LONGEST_TRACEBACK))


def without_values(text: str) -> str:
    """Return a text without the values that servers put into their messages, as far as
    their wording identifies them."""
    for pattern in _VALUES:
        text = pattern.sub(_leave_out, text)
    return text


def is_of_database(error: BaseException) -> bool:
    """Return whether a database, its driver or Django's database layer raised this."""
    return isinstance(error, DatabaseFailure) or any(
        kind.__name__ == "Error" and kind.__module__.split(".")[0] in _DRIVERS
        for kind in type(error).__mro__
    )


_DRIVERS = frozenset(
    {"psycopg", "psycopg2", "pymysql", "MySQLdb", "mysql", "sqlite3", "oracledb", "pyodbc"}
)


def _primary(error: BaseException) -> str:
    driver = _driver_error(error)
    diagnosis = getattr(driver, "diag", None)
    if primary := getattr(diagnosis, "message_primary", None):
        if str(sqlstate_of(error) or "").startswith("22"):
            # Data exceptions (class 22) quote the datum.
            primary = _POSTGRESQL_DATA.sub(rf'\g<head>"{_LEFT_OUT}"', primary)
        return without_values(primary)
    number = _mysql_number(driver)
    if number is not None:
        text = " ".join(str(word) for word in driver.args[1:])[:_READ_AT_MOST]
        text = without_values(text)
        if number not in _NAMES_ALONE | _SPECIAL:
            text = _QUOTED.sub(f"'{_LEFT_OUT}'", text)
        return f"({number}) {text}"
    return without_values(_FIELDS.sub("", str(error)[:_READ_AT_MOST]).strip())


def _driver_error(error: BaseException) -> Any:
    cause = error.__cause__
    return cause if isinstance(error, DatabaseFailure) and cause is not None else error


def _mysql_number(error: Any) -> int | None:
    args: tuple[Any, ...] = getattr(error, "args", ())
    return args[0] if len(args) > 1 and type(args[0]) is int else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and its causes."""
    waiting = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST_CAUSES:
        found = waiting.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
        waiting += [one for one in (found.__cause__, found.__context__) if one is not None]


def _leave_out(match: re.Match[str]) -> str:
    start, end = match.span("value")
    before, after = match.string[match.start() : start], match.string[end : match.end()]
    return f"{before}{_LEFT_OUT}{after}"
