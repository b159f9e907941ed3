"""Tests of a supervisor that starts while another process writes to the ledger."""

from __future__ import annotations

import sqlite3
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import connections

from migration_route.conf.databases import using_private_connection
from migration_route.execution.supervisor.supervisor import Supervisor
from migration_route.ledger import runs
from tests.factories import a_new_run, vendor

pytestmark = pytest.mark.usefixtures("database")


def test_the_log_of_a_run_is_opened_when_another_writer_has_finished(
    monkeypatch: pytest.MonkeyPatch,
):
    """The connection of the supervisor hardly waits: SQLite lets nobody read during a
    commit."""
    if vendor() != "sqlite":
        pytest.skip("servers let others read while one writes")
    run, _ = runs.create_run(a_new_run())
    writer = sqlite3.connect(
        connections["default"].settings_dict["NAME"], isolation_level=None
    )
    writer.execute("BEGIN EXCLUSIVE")
    waited: list[float] = []

    def finish(seconds: float) -> None:
        waited.append(seconds)
        writer.close()

    monkeypatch.setattr(time, "sleep", finish)
    with using_private_connection("default", patience=0.0):
        run_log = Supervisor._open_log(cast("Any", SimpleNamespace(_run=run)))
    assert len(waited) == 1
    assert run_log.last == 0
