"""The settings of a process that a test starts: what the test tells it, and the rest."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

globals().update(json.loads(os.environ["MIGRATION_ROUTE_TEST_PROCESS"]))
