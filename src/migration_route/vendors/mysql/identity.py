"""The identity of a MySQL or MariaDB database."""

from __future__ import annotations

from typing import Any

from migration_route.vendors.base_identity import DatabaseIdentity

_DATABASE = "SELECT DATABASE(), @@GLOBAL.lower_case_table_names"
_MARKS = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id',
'hostname', 'port', 'socket', 'datadir', 'group_replication_group_name')
"""
_CLUSTER = "SHOW GLOBAL STATUS WHERE Variable_name = 'wsrep_cluster_state_uuid'"
_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return the identity of the database of a mysqlclient or PyMySQL session.

    The members of a Galera cluster or of a replication group have the same databases: they
    count as one server.
    """
    with session.cursor() as cursor:
        ((name, folds),) = _rows(cursor, _DATABASE)
        marks = {str(key): str(value or "") for key, value in _rows(cursor, _MARKS)}
        clusters = [str(value or "") for _, value in _rows(cursor, _CLUSTER)]
    groups = [*clusters, marks.pop("group_replication_group_name", "")]
    group = next((one for one in groups if one and one != _NO_CLUSTER), "")
    marks_of_server = " ".join(f"{key}={marks[key]}" for key in sorted(marks))
    label = _text(name)
    return DatabaseIdentity(
        server=group or marks_of_server,
        name=label.lower() if int(folds) else label,
        label=label,
    )


def current_database(session: Any) -> str:
    """Return the name of the session's database; "" for none."""
    with session.cursor() as cursor:
        ((name,),) = _rows(cursor, "SELECT DATABASE()")
    return _text(name)


def _rows(cursor: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return [
        tuple(row.values()) if isinstance(row, dict) else tuple(row)
        for row in cursor.fetchall()
    ]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name or "")
