"""Where does a connection lead that is opened past Django?"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from migration_route.vendors.copying import verified


def watch_drivers(
    look: Callable[[str], None], verify: Callable[[Any], None] | None = None
) -> None:
    """Let `look` hear the name of the database before MySQLdb or PyMySQL connects, in
    this process from now on; what it raises keeps that from happening. `verify` gets each
    new session, which is closed when it raises."""
    for name in ("MySQLdb", "pymysql"):
        driver: Any = sys.modules.get(name)
        if driver is not None and not hasattr(driver.connect, "is_watched"):
            driver.connect = _watched(driver.connect, look, verify)


def _watched(
    usual: Callable[..., Any],
    look: Callable[[str], None],
    verify: Callable[[Any], None] | None,
) -> Callable[..., Any]:
    def connect(*args: Any, **words: Any) -> Any:
        # (host, user, password, database) by place, in MySQLdb
        by_place = args[3] if len(args) > 3 else ""
        look(str(words.get("database") or words.get("db") or by_place))
        return verified(usual(*args, **words), verify)

    connect.is_watched = True  # type: ignore[attr-defined]
    return connect
