"""Text as a database can store it: characters outside its encoding are escaped.

A migration can print any text, and a user can enter any reason. A character that the
ledger's database cannot store must fail neither a run nor a request.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors import fetch_rows

Escape = Callable[[str], str]
"""Replaces each character that cannot be stored with a backslash escape."""

_ASTRAL = re.compile("[\U00010000-\U0010ffff]")
# PostgreSQL manual, 23.3.1; encodings that have another name in Python.
_POSTGRESQL = {
    "EUC_CN": "gb2312",
    "EUC_JIS_2004": "euc_jis_2004",
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
    "SQL_ASCII": "utf-8",  # the server stores the bytes of the client as they are
    "UTF8": "utf-8",
}
# MySQL manual, 12.10.
_MYSQL = {"ascii": "ascii", "latin1": "latin-1", "utf8mb4": "utf-8"}
_MYSQL_BMP = frozenset({"utf8", "utf8mb3", "ucs2"})
_MYSQL_CHARACTER_SETS = """
SELECT @@character_set_connection, coalesce(
(SELECT character_set_name FROM information_schema.columns
 WHERE table_schema = DATABASE() AND table_name = %s AND column_name = %s),
@@character_set_database)
"""
_COLUMN = ("migration_route_event", "text")

_known: dict[tuple[str, str], Escape] = {}


def storable(connection: BaseDatabaseWrapper, text: str) -> str:
    """Return a text as this database can store it. Raises `django.db.Error`."""
    if connection.vendor == "postgresql":
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL never stores it
    return text if text.isascii() else _escape_of(connection)(text)


def _escape_of(connection: BaseDatabaseWrapper) -> Escape:
    """Return the escape function of this database, which is queried once."""
    key = (connection.vendor, repr(sorted(connection.settings_dict.items(), key=repr)))
    if key not in _known:
        _known[key] = _queried(connection)
    return _known[key]


def _queried(connection: BaseDatabaseWrapper) -> Escape:
    if connection.vendor == "postgresql":
        [(name,)] = fetch_rows(connection, "SHOW server_encoding")
        return _in_codec(_codec_of_postgresql(name))
    if connection.vendor == "mysql":
        [(of_session, of_column)] = fetch_rows(connection, _MYSQL_CHARACTER_SETS, _COLUMN)
        first, second = _of_mysql(of_session), _of_mysql(of_column)
        return lambda text: second(first(text))
    return _in_codec("utf-8")


def _codec_of_postgresql(name: str) -> str:
    found = _POSTGRESQL.get(name) or re.sub("^WIN", "cp", name).replace("ISO_", "ISO")
    try:
        return codecs.lookup(found).name
    except LookupError:
        return "ascii"


def _of_mysql(name: str) -> Escape:
    if name in _MYSQL_BMP:
        return lambda text: _ASTRAL.sub(_as_escape, _in_codec("utf-8")(text))
    return _in_codec(_MYSQL.get(name, "ascii"))


def _in_codec(codec: str) -> Escape:
    return lambda text: text.encode(codec, "backslashreplace").decode(codec)


def _as_escape(found: re.Match[str]) -> str:
    return found[0].encode("ascii", "backslashreplace").decode("ascii")
