"""Can a plan be carried out in a MySQL or MariaDB database and undone as a whole?"""

from __future__ import annotations

from migration_route.vendors.in_place import Impossible

IN_PLACE = Impossible(
    "MySQL and MariaDB commit each change of a schema by itself: there would be nothing "
    "to roll back"
)
