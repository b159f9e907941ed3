"""Tests that this package's reads bypass the query caches of a project."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Max
from django.db.models.sql.compiler import SQLCompiler

from migration_route.models import Entry, Run

pytestmark = pytest.mark.usefixtures("database")


class Cached(Exception):
    """The cache answered a read."""


@pytest.fixture
def cache_in_the_compiler(monkeypatch):
    """Answer every query from a cache, like a package that replaces `execute_sql`."""
    usual = SQLCompiler.execute_sql

    @functools.wraps(usual)
    def execute_sql(compiler, *args, **kwargs):
        raise Cached

    monkeypatch.setattr(SQLCompiler, "execute_sql", execute_sql)


def test_no_compiler_that_caches_is_asked(cache_in_the_compiler):
    """Rows, one row, existence, numbers and aggregates come from the database."""
    with pytest.raises(Cached):
        list(Group.objects.using("default"))
    runs = Run.objects.using("default")
    assert list(runs) == []
    assert runs.filter(pk="x").first() is None
    assert not runs.exists()
    assert runs.count() == 0
    assert list(runs.values_list("id", flat=True)[:3]) == []
    assert list(runs.iterator()) == []
    assert Entry.objects.using("default").aggregate(last=Max("sequence"))["last"] is None


def test_the_recorder_is_read_from_the_database(cache_in_the_compiler):
    """Including the reads of Django's own loader and executor."""
    recorder = MigrationRecorder(connections["default"])
    assert ("testapp", "0001_initial") in recorder.applied_migrations()


def test_each_read_is_sent_to_the_primary_database():
    """A cache or router that separates reads from writes treats it as a write."""
    everything: Any = Run.objects.all()
    sliced: Any = Run.objects.using("default").filter(pk="x")[:1]
    assert everything._for_write
    assert sliced._for_write
