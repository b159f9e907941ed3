"""`python -m migration_route.client`: the same as `migration-route`."""

from __future__ import annotations

import sys

from migration_route.client.main import main

if __name__ == "__main__":
    sys.exit(main())
