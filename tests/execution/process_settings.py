"""Settings of a process that a test starts: the tests' settings with those of the test."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403

globals().update(json.loads(os.environ["MIGRATION_ROUTE_TEST_PROCESS"]))
