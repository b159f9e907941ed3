"""Makes `python -m migration_route.cli.remote` the same as `migration-route`."""

from __future__ import annotations

import sys

from migration_route.cli.remote.main import main

if __name__ == "__main__":
    sys.exit(main())
