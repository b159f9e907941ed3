"""How is an invalid index made anew? It is dropped right before it is made.

Only on request: `order.rebuild_invalid_indexes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from migration_route.running.messages import Order
from migration_route.running.work.reporter import Reporter
from migration_route.vendors import vendor_of


@contextmanager
def rebuilding(order: Order, reporter: Reporter) -> Iterator[None]:
    """Drop each invalid index that the worker is about to make concurrently."""
    if not order.rebuild_invalid_indexes:
        yield
        return
    connection = connections[order.database]
    vendor = vendor_of(order.database)

    def rebuild(
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        # The catalog is asked with statements of this connection: none of them fits again.
        if drop := vendor.index_in_the_way(connection, str(sql)):
            reporter.index_dropped(drop)
            with connection.cursor() as cursor:
                cursor.execute(drop)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(rebuild):
        yield
