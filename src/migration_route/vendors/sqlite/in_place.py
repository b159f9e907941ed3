"""Can a plan be carried out in an SQLite file and undone as a whole?"""

from __future__ import annotations

from migration_route.vendors.in_place import Impossible

IN_PLACE = Impossible(
    "SQLite keeps every writer out while one transaction writes, and Django turns foreign "
    "keys off outside of transactions to make a table anew"
)
