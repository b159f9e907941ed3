"""`python -m migration_route.client`: the same as `migration-route`."""

from __future__ import annotations

import sys

from migration_route.client.main import main

sys.exit(main())
