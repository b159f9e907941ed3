"""Reads the schema of SQLite from its stored statements, and the columns from pragmas."""

from __future__ import annotations

_TABLES = "sqlite_master AS tables"
_IS_TABLE = "tables.type IN ('table', 'view')"

QUERIES = {
    "statements": "SELECT type, name, tbl_name, sql FROM sqlite_master",
    "columns": f"""
        SELECT tables.name, columns.cid, columns.name, columns.type,
               columns."notnull", columns.dflt_value, columns.pk, columns.hidden
        FROM {_TABLES}, pragma_table_xinfo(tables.name) AS columns WHERE {_IS_TABLE}
    """,
    "foreign keys": f"""
        SELECT tables.name, keys."table", keys."from", keys."to",
               keys.on_update, keys.on_delete
        FROM {_TABLES}, pragma_foreign_key_list(tables.name) AS keys WHERE {_IS_TABLE}
    """,
    "indexes": f"""
        SELECT tables.name, indexes.name, indexes."unique", indexes.origin,
               indexes.partial, columns.seqno, columns.name
        FROM {_TABLES}, pragma_index_list(tables.name) AS indexes,
             pragma_index_info(indexes.name) AS columns WHERE {_IS_TABLE}
    """,
}
