"""SQL as HTML, with its keywords, names, literals and comments marked by classes."""

from __future__ import annotations

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from migration_route.vendors.sql_lexer import LexemeKind, dialect_of, lexemes

_LONGEST = 50_000  # characters; longer texts are shown without marks
_CLASSES = {
    LexemeKind.COMMENT: "mr-sql-comment",
    LexemeKind.LITERAL: "mr-sql-literal",
    LexemeKind.NUMBER: "mr-sql-literal",
    LexemeKind.QUOTED: "mr-sql-name",
}
_KEYWORD = re.compile(
    r"""
    ADD|ALL|ALTER|AND|ANALYZE|AS|ASC|BEGIN|BETWEEN|BY|CASCADE|CASE|CHECK|CLUSTER|COLLATE|
    COLUMN|COMMENT|COMMIT|CONCURRENTLY|CONSTRAINT|CREATE|DEFAULT|DEFERRABLE|DEFERRED|DELETE|
    DESC|DISTINCT|DO|DROP|ELSE|END|EXCLUDE|EXISTS|EXTENSION|FALSE|FOR|FOREIGN|FROM|FUNCTION|
    GENERATED|GRANT|GROUP|HAVING|IDENTITY|IF|IMMEDIATE|IN|INCLUDE|INDEX|INITIALLY|INNER|
    INSERT|INTO|IS|JOIN|KEY|LEFT|LIKE|LIMIT|LOCK|MATERIALIZED|MODIFY|NOT|NULL|OFFSET|ON|OR|
    ORDER|OUTER|PARTITION|PRIMARY|REFERENCES|REINDEX|RENAME|REPLACE|RESTRICT|RETURNING|
    ROLLBACK|SAVEPOINT|SCHEMA|SELECT|SEQUENCE|SET|TABLE|TEMPORARY|THEN|TO|TRANSACTION|
    TRIGGER|TRUE|TRUNCATE|TYPE|UNION|UNIQUE|UPDATE|USING|VACUUM|VALID|VALIDATE|VALUES|VIEW|
    WHEN|WHERE|WITH
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def sql_html(sql: str, vendor: str) -> SafeString:
    """Return a statement as HTML; its text is the statement, unchanged."""
    if len(sql) > _LONGEST:
        return escape(sql)
    try:
        dialect = dialect_of(vendor)
    except KeyError:  # a database of another kind
        return escape(sql)
    pieces = []
    for kind, text in lexemes(sql, dialect):
        name = _CLASSES.get(kind, "")
        if kind is LexemeKind.WORD and _KEYWORD.fullmatch(text):
            name = "mr-sql-keyword"
        escaped = escape(text)
        pieces.append(f'<span class="{name}">{escaped}</span>' if name else escaped)
    return mark_safe("".join(pieces))  # noqa: S308 - every piece is escaped
