"""Factories for values and migration histories, and fixtures for contention."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connections

from migration_route.access.actors import Actor
from migration_route.core.enums import ActorKind, Direction, Mode, Scope
from migration_route.ledger.records import StepRecord
from migration_route.ledger.runs import NewRun
from migration_route.planning.plan import Plan, Step

PROCESS = "MIGRATION_ROUTE_TEST_PROCESS"
"""Environment variable that passes a test's settings to its processes."""

_numbers = itertools.count(1)


def a_step(name: str = "0002_more", **changes: Any) -> Step:
    step = Step(
        app="testapp",
        name=name,
        direction=Direction.FORWARDS,
        digest=f"digest of {name}",
        atomic=True,
        reversible=True,
        rolls_back=True,
    )
    return replace(step, **changes)


def a_plan(*steps: Step, **changes: Any) -> Plan:
    plan = Plan(
        database="default",
        vendor="postgresql",
        direction=steps[0].direction if steps else Direction.NONE,
        mode=Mode.APPLY,
        targets=(),
        transactional_ddl=True,
        steps=steps,
        fingerprint="aaaaaaaaaaaa-" + "b" * 64,
        build="this build",
    )
    return replace(plan, **changes)


def a_step_record(name: str = "0002_more", **changes: Any) -> StepRecord:
    step = StepRecord(
        app="testapp",
        name=name,
        direction=Direction.FORWARDS,
        digest=f"digest of {name}",
        rolls_back=True,
    )
    return replace(step, **changes)


def a_new_run(**changes: Any) -> NewRun:
    """Return a run that has not started."""
    new = NewRun(
        database="default",
        direction=Direction.FORWARDS,
        mode=Mode.APPLY,
        targets=(),
        fingerprint="aaaaaaaaaaaa-" + "b" * 64,
        steps=(a_step_record(),),
        actor_kind=ActorKind.TOKEN,
        actor_name="deployer",
        address="192.0.2.1",
        reason="a test",
        build="this build",
        idempotency_key=None,
        request_digest="c" * 64,
    )
    return replace(new, **changes)


def an_actor(*scopes: Scope, **changes: Any) -> Actor:
    """Return a user with these rights; with all rights where none is named."""
    actor = Actor(
        kind=ActorKind.USER,
        name="ada",
        address="192.0.2.7",
        scopes=frozenset(scopes or Scope),
    )
    return replace(actor, **changes)


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Call a function in that many threads at once; return results and exceptions."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def one(position: int) -> None:
        try:
            barrier.wait(timeout=30)
            results[position] = work(position)
        except Exception as error:  # noqa: BLE001 - returned to the test
            results[position] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "a thread hangs"
    return results


def vendor(alias: str = "default") -> str:
    """Return the vendor of the database that the tests run on."""
    return str(connections[alias].vendor)


@contextmanager
def written_by_another(alias: str = "default") -> Iterator[sqlite3.Connection]:
    """Hold the write lock of an SQLite file on another connection, as a migration does."""
    holder = sqlite3.connect(connections[alias].settings_dict["NAME"], isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        yield holder
    finally:
        if holder.in_transaction:
            holder.execute("ROLLBACK")
        holder.close()


class History:
    """Migrations of `testapp` that a test writes, in their own package."""

    def __init__(self, folder: Path) -> None:
        self.package = f"history_{os.getpid()}_{next(_numbers)}_{uuid4().hex[:6]}"
        self.folder = folder / self.package
        self.folder.mkdir()
        (self.folder / "__init__.py").touch()
        self.last: str | None = None

    def write(
        self,
        name: str,
        *operations: str,
        after: str | None = None,
        body: str = "",
        head: str = "",
    ) -> Path:
        """Write a migration after the last one, or after `after`.

        `operations` are expressions, `head` goes above the class, `body` into it.
        """
        before = after or self.last
        dependencies = [("testapp", before)] if before else []
        listed = "".join(f"        {operation},\n" for operation in operations)
        path = self.folder / f"{name}.py"
        path.write_text(
            "from django.db import migrations, models\n"
            f"{head}\n\n"
            "class Migration(migrations.Migration):\n"
            f"    dependencies = {dependencies!r}\n"
            f"    {body}\n"
            f"    operations = [\n{listed}    ]\n"
        )
        self.last = name
        return path

    def table(self, name: str, table: str, **words: Any) -> Path:
        """Write a migration that creates a table; reversing it drops the table."""
        return self.write(name, make_table(table), **words)

    def python(self, name: str, code: str, **words: Any) -> Path:
        """Write a migration that runs `code`, which can use `apps` and `schema_editor`."""
        lines = "".join(f"    {line}\n" for line in code.splitlines())
        head = f"\n\ndef work(apps, schema_editor):\n{lines}"
        return self.write(name, "migrations.RunPython(work)", head=head, **words)


def make_table(table: str) -> str:
    """Return an operation that creates a table."""
    return f"migrations.RunSQL('CREATE TABLE {table} (id integer)', 'DROP TABLE {table}')"


def create_model(name: str, *fields: str) -> str:
    listed = ", ".join(
        ("('id', models.BigAutoField(primary_key=True))", *fields),
    )
    return f"migrations.CreateModel({name!r}, [{listed}])"


def tables(alias: str = "default") -> set[str]:
    """Return the names of the existing tables."""
    connection = connections[alias]
    with connection.cursor() as cursor:
        return set(connection.introspection.table_names(cursor))


def tell_processes() -> None:
    """Pass the settings of the test to the processes that it starts."""
    os.environ[PROCESS] = json.dumps(
        {
            "DATABASES": connections.settings,
            "INSTALLED_APPS": settings.INSTALLED_APPS,
            "LANGUAGE_CODE": settings.LANGUAGE_CODE,
            "MIGRATION_MODULES": settings.MIGRATION_MODULES,
            "MIGRATION_ROUTE": settings.MIGRATION_ROUTE,
        },
        default=str,
    )
