"""Identifies the code of this process: in memory, and on disk.

A long-running process keeps the modules that it has imported while the files change. So
every migration file is digested: a plan names what is on disk, and a process detects when
its own memory is outdated.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import socket
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path

from django.apps import AppConfig, apps
from django.db.migrations.loader import MigrationLoader

from migration_route.conf import route_settings
from migration_route.core.canonical_json import digest


@dataclass(slots=True)
class _Memory:
    """The state of the files when this process first read them. Threads share it: each
    access is one operation of a dict, which is atomic."""

    digests: dict[str, str] = field(default_factory=dict)  # by module
    folders: dict[str, tuple[Path, ...]] = field(default_factory=dict)  # by package
    digested: dict[Path, tuple[tuple[int, int], str]] = field(default_factory=dict)


_memory = _Memory()


def packages() -> Iterator[tuple[str, Path]]:
    """Yield the app labels with migrations, each with its folder."""
    for app in apps.get_app_configs():
        module_name, _ = MigrationLoader.migrations_module(app.label)
        if module_name is None:
            continue
        for folder in _folders(module_name):
            yield app.label, folder


def _folders(module_name: str) -> tuple[Path, ...]:
    """Return the folders of a package; a missing package is searched for on each call."""
    known = _memory.folders.get(module_name)
    if known is None:
        spec = _spec(module_name)
        locations = spec.submodule_search_locations if spec else None
        known = tuple(map(Path, locations or ()))
        if known:
            _memory.folders[module_name] = known
    return known


def _spec(module_name: str) -> ModuleSpec | None:
    if (module := sys.modules.get(module_name)) is not None:
        return module.__spec__
    try:
        return importlib.util.find_spec(module_name)
    except ModuleNotFoundError:
        return None


def layout() -> tuple[tuple[str, int, int, int], ...]:
    """Return the state of the folders, which changes when a file is added, removed or
    renamed, and when another release takes the place of a folder: its files may have the
    same times."""
    return tuple(
        (str(folder), status.st_dev, status.st_ino, status.st_mtime_ns)
        for _, folder in packages()
        if (status := _folder_status(folder)) is not None
    )


def _folder_status(folder: Path) -> os.stat_result | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status if stat.S_ISDIR(status.st_mode) else None


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read again only when its time or size has changed."""
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_size)
    known = _memory.digested.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    _memory.digested[path] = (stamp, found)
    return found


def source_digest(module_name: str) -> str:
    """Return the digest of a migration module as it is on disk.

    A module without a source file (compiled, or created at run time) is identified by its
    name.
    """
    path = _source(module_name)
    if path is None:
        return digest({"module": module_name})
    found = file_digest(path)
    _memory.digests.setdefault(module_name, found)
    return found


def _source(module_name: str) -> Path | None:
    module = sys.modules.get(module_name)
    file = getattr(module, "__file__", None)
    path = Path(file or "")
    return path if path.suffix == ".py" and path.exists() else None


def _files() -> dict[str, Path]:
    found = {}
    for label, folder in packages():
        package, _ = MigrationLoader.migrations_module(label)
        for path in sorted(folder.glob("*.py")):
            if path.name[0] not in "_~":
                found[f"{package}.{path.stem}"] = path
    return found


def on_disk() -> str:
    """Return the digest of all migration files as they are now."""
    return digest({name: file_digest(path) for name, path in _files().items()})


def remember_digests() -> None:
    """Record the current digests of the files; call it before their modules are
    imported."""
    for module_name, path in _files().items():
        if module_name not in _memory.digests:
            _memory.digests.setdefault(module_name, file_digest(path))


def is_server() -> bool:
    """Return whether this process serves requests, instead of running one command."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":  # python -m django, python -m gunicorn
        return program.parent.name != "django"
    return program.name not in {"manage.py", "django-admin", "-c", "-m"}


def is_stale(module_name: str) -> bool:
    """Return whether a migration in memory differs from the one on disk."""
    path = _source(module_name)
    if path is None:
        return False
    known = _memory.digests.get(module_name)
    return known is not None and known != file_digest(path)


def forget_old_bytecode(app: str, name: str) -> None:
    """Remove a compiled file that does not match its source.

    Python accepts bytecode whose source has the same modification second and size (language
    reference, 5.4.7), as after a quick edit or in an image with normalized times. Raises
    `OSError` when it cannot be removed.
    """
    package, _ = MigrationLoader.migrations_module(app)
    for folder in _folders(package or ""):
        path = folder / f"{name}.py"
        if path.exists():
            loader = SourceFileLoader(f"{package}.{name}", str(path))
            written = loader.source_to_code(path.read_bytes(), str(path))
            if loader.get_code(loader.name) != written:
                Path(importlib.util.cache_from_source(str(path))).unlink()


@lru_cache(maxsize=1)
def build() -> str:
    """Return the build of the running code: the setting, or else the digest of the
    migrations when this process first read them."""
    configured = route_settings().build
    if configured:
        return configured
    remember_digests()
    return digest(_memory.digests.copy())[:16]


def is_other_build(asked: str) -> bool:
    """Return whether a request for one build would be carried out by another.

    Only the setting BUILD identifies the whole code. Without it, the fingerprint of a plan
    covers what can be compared: the migrations of that plan.
    """
    configured = route_settings().build
    return bool(configured) and asked != configured


@lru_cache(maxsize=1)
def place() -> str:
    """Return the files that this process runs: the setting BUILD, or else the folders of
    the apps on this machine, as they were on the first call.

    A folder keeps its inode number (stat(2), `st_ino`) while files in it are edited;
    another release, checkout or image has a different one, even under the same name.
    """
    configured = route_settings().build
    if configured:
        return configured
    return digest([socket.gethostname(), *map(_folder_identity, apps.get_app_configs())])


def _folder_identity(app: AppConfig) -> list[str | int]:
    try:
        status = Path(app.path).stat()
    except OSError:  # an archive
        return [app.path]
    return [status.st_dev, status.st_ino]
