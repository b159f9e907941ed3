"""Where does a connection lead that is opened past Django?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from migration_route.vendors.copying import verified


def watch_drivers(
    look: Callable[[str], None], verify: Callable[[Any], None] | None = None
) -> None:
    """Let `look` hear the name of the database before psycopg or psycopg2 connects, in
    this process from now on; what it raises keeps that from happening. `verify` gets each
    new session, which is closed when it raises."""
    psycopg: Any = sys.modules.get("psycopg")
    if psycopg is not None:
        usual = psycopg.Connection.connect.__func__

        def connect(cls: Any, /, conninfo: str = "", **words: Any) -> Any:
            named = psycopg.conninfo.conninfo_to_dict(conninfo)
            look(_name({**named, **words}))
            return verified(usual(cls, conninfo, **words), verify)

        psycopg.Connection.connect = classmethod(connect)
        psycopg.connect = psycopg.Connection.connect
    psycopg2: Any = sys.modules.get("psycopg2")
    if psycopg2 is not None:
        usual_2 = psycopg2.connect

        def connect_2(dsn: str | None = None, *rest: Any, **words: Any) -> Any:
            named = psycopg2.extensions.parse_dsn(dsn) if dsn else {}
            look(_name({**named, **words}))
            return verified(usual_2(dsn, *rest, **words), verify)

        psycopg2.connect = connect_2


def _name(words: dict[str, Any]) -> str:
    return str(words.get("dbname") or words.get("database") or words.get("user") or "")
