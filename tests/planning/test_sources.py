"""Tests of the loaded migration code compared with the files on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import time

import pytest
from django.apps import apps

from migration_route.planning import sources
from migration_route.planning.graph import read_graph


def rewrite(path, old: str, new: str) -> None:
    """Change a file as a deploy does: other content, another time."""
    path.write_text(path.read_text().replace(old, new))
    later = time.time_ns() + 10_000_000
    os.utime(path, ns=(later, later))


def test_a_migration_is_not_stale_while_its_file_stays(history):
    """The imported module equals the file on disk."""
    history.table("0001_a", "made_a")
    read_graph("default")
    assert not sources.is_stale(f"{history.package}.0001_a")


def test_a_file_that_has_changed_makes_it_stale(history):
    """The process still has the old code."""
    path = history.table("0001_a", "made_a")
    read_graph("default")
    rewrite(path, "made_a", "made_b")
    assert sources.is_stale(f"{history.package}.0001_a")


def test_a_file_that_was_only_touched_does_not(history):
    """A deploy may give every file a new time."""
    path = history.table("0001_a", "made_a")
    read_graph("default")
    rewrite(path, "made_a", "made_a")
    assert not sources.is_stale(f"{history.package}.0001_a")


def test_a_file_that_has_changed_back_is_not_stale_any_more(history):
    """After a deploy and its rollback, memory and disk are equal."""
    path = history.table("0001_a", "made_a")
    read_graph("default")
    rewrite(path, "made_a", "made_b")
    rewrite(path, "made_b", "made_a")
    assert not sources.is_stale(f"{history.package}.0001_a")


def test_the_digest_of_a_source_is_that_of_its_file_as_it_is_now(history):
    """A plan names what a new process would execute."""
    path = history.table("0001_a", "made_a")
    read_graph("default")
    module = f"{history.package}.0001_a"
    assert sources.source_digest(module) == hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(path, "made_a", "made_b")
    assert sources.source_digest(module) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_module_without_a_file_is_named_by_its_name():
    """Compiled code has no source to read."""
    assert sources.source_digest("no.such.one") != sources.source_digest("no.such.two")
    assert not sources.is_stale("no.such.one")


def test_the_layout_changes_when_a_file_comes_or_goes(history):
    """It is the cache key of the graph."""
    before = sources.layout()
    path = history.table("0001_a", "made_a")
    after = sources.layout()
    assert after != before
    assert sources.layout() == after
    path.unlink()
    assert sources.layout() not in {before, after}


def test_a_package_that_comes_later_is_seen(history, settings):
    """An app may get its first migrations while the process is running."""
    settings.MIGRATION_MODULES = {"testapp": f"{history.package}.later"}
    before = sources.layout()
    (history.folder / "later").mkdir()
    (history.folder / "later" / "__init__.py").touch()
    assert sources.layout() != before


def test_an_app_without_migrations_is_no_problem(history, settings):
    """`MIGRATION_MODULES = {"app": None}` turns them off."""
    settings.MIGRATION_MODULES = {"testapp": None}
    assert "testapp" not in {label for label, _ in sources.packages()}


def test_the_build_is_the_setting_or_a_digest(settings, monkeypatch):
    """The same in every process of one deploy."""
    sources.build.cache_clear()
    found = sources.build()
    assert len(found) == 16
    sources.build.cache_clear()
    assert sources.build() == found
    settings.MIGRATION_ROUTE = {"BUILD": "v1"}
    sources.build.cache_clear()
    assert sources.build() == "v1"
    sources.build.cache_clear()


def test_a_place_is_the_same_while_its_files_are_edited(history):
    """A process started after an edit is responsible for the same files."""
    found = place()
    history.table("0001_a", "made_a")
    assert place() == found


def test_another_checkout_is_another_place(tmp_path, monkeypatch):
    """Even at the path of the previous one, as with a release behind a symlink."""
    folder, link = apps.get_app_config("testapp").path, tmp_path / "current"
    monkeypatch.setattr(apps.get_app_config("testapp"), "path", str(link))
    link.symlink_to(folder)
    found = place()
    link.unlink()
    link.symlink_to(shutil.copytree(folder, tmp_path / "release"))
    assert place() != found


def test_an_app_in_an_archive_has_a_place(monkeypatch):
    """There is no file at its path."""
    found = place()
    monkeypatch.setattr(apps.get_app_config("testapp"), "path", "/srv/apps.zip/testapp")
    assert place() != found


def test_a_build_that_is_set_is_the_place(settings):
    """Then the setting alone distinguishes releases."""
    settings.MIGRATION_ROUTE = {"BUILD": "v1"}
    assert place() == "v1"


def place() -> str:
    """Return the result of a process that starts now."""
    sources.place.cache_clear()
    return sources.place()


@pytest.mark.usefixtures("history")
def test_files_of_editors_are_not_migrations(history):
    """A file that Django does not load is not part of the build."""
    history.table("0001_a", "made_a")
    (history.folder / "_draft.py").write_text("raise SystemExit")
    (history.folder / "~0001_a.py").write_text("raise SystemExit")
    assert read_graph("default").problem is None
