"""Creates a Django project for one end-to-end test.

The project is a copy of `tests/projects/market` with an `options.json` beside it; a test
adds its migrations as source text.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.harness.database import Database

SOURCE = Path(__file__).parent.parent / "projects" / "market"
PASSWORD = "walk-password"
PEOPLE = ("boss", "helper", "visitor")
"""A superuser, a staff member without any permission, a user who is not staff."""

SCOPES = {
    "ci": ["read", "plan", "apply"],
    "reader": ["read"],
    "planner": ["plan"],
    "operator": ["read", "plan", "rehearse", "apply", "reverse", "fake", "operate"],
    "elsewhere": ["read", "plan", "apply"],
    "expired": ["read", "plan", "apply"],
}

SECRETS = {
    name: f"{name}-walk-token-0123456789abcdef0123456789abcdef"
    for name in (*SCOPES, "revoked")
}
"""The secret of each token; `revoked` is not in the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a project differs from the default."""

    contrib: bool = True  # False: no sessions, no users, no admin
    atomic_requests: bool = False
    login_required: bool = False
    custom_user: bool = False
    adopted: bool = True  # False: the project before it adopts this package
    routers: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    connection: Mapping[str, Any] = field(default_factory=dict)  # of every database
    migration_route: Mapping[str, Any] = field(default_factory=dict)


class Project:
    """A Django project in its own folder."""

    def __init__(
        self, folder: Path, databases: Mapping[str, Database], options: Options
    ) -> None:
        self.folder = folder
        self.databases = dict(databases)
        self.options = options
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "gates").mkdir()
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("DJANGO_", "MIGRATION_ROUTE_", "PYTEST_", "GIT_"))
            },
            "DJANGO_SETTINGS_MODULE": "market.settings",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": "",
        }
        self.set_options(options)

    @property
    def database(self) -> Database:
        """The database behind the alias `default`."""
        return self.databases["default"]

    def set_options(self, options: Options) -> None:
        """Write the options that the settings read; servers started later use them."""
        self.options = options
        entries = {
            alias: {
                **database.settings(),
                "ATOMIC_REQUESTS": options.atomic_requests,
                **options.connection,
            }
            for alias, database in self.databases.items()
        }
        settings = dict(options.settings)
        entries |= settings.pop("DATABASES", {})
        words = {
            "databases": entries,
            "routers": list(options.routers),
            "contrib": options.contrib,
            "login_required": options.login_required,
            "custom_user": options.custom_user,
            "adopted": options.adopted,
            "settings": settings,
            "migration_route": {
                "TOKENS": tokens(),
                **options.migration_route,
            },
        }
        self.write("options.json", json.dumps(words, indent=2))

    def write(self, path: str, text: str) -> Path:
        """Write a file of the project, as a deploy does."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def add_migrations(self, migrations: Mapping[str, str], *, app: str = "shop") -> None:
        """Write migration files, name to source text."""
        for name, text in migrations.items():
            self.write(f"{app}/migrations/{name}.py", text)

    def manage(
        self, *arguments: str, check: bool = True, timeout: float = 90, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `manage.py`; with `check`, any exit code other than 0 is an error."""
        answer = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=self.environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and answer.returncode:
            command = f"manage.py {' '.join(arguments)}"
            output = answer.stdout + answer.stderr
            raise AssertionError(f"{command} ended with {answer.returncode}\n{output}")
        return answer

    def python(self, source: str) -> str:
        """Run Python in a fresh process of the project and return its output."""
        return self.manage("shell", "--no-imports", "-c", source).stdout.strip()

    def await_gate(self, name: str) -> None:
        """Wait until a migration has reached this gate."""
        reached = self.folder / "gates" / f"{name}.reached"
        until(
            reached.exists,
            seconds=40,
            what=f"a migration reaches the gate {name}",
            every=0.02,
        )

    def open_gate(self, name: str) -> None:
        """Let the migration that waits at this gate continue."""
        (self.folder / "gates" / f"{name}.open").touch()


def tokens() -> list[dict[str, Any]]:
    """Return the entries of `MIGRATION_ROUTE["TOKENS"]`."""
    entries: list[dict[str, Any]] = [
        {
            "name": name,
            "sha256": hashlib.sha256(SECRETS[name].encode()).hexdigest(),
            "scopes": scopes,
        }
        for name, scopes in SCOPES.items()
    ]
    for entry in entries:
        if entry["name"] == "expired":
            entry["expires"] = "2020-01-01"
        if entry["name"] == "elsewhere":
            entry["databases"] = ["another"]
    return entries
