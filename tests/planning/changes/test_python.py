"""Tests of the detection of functions that ignore their database."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, router, transaction

from migration_route.planning.changes.run_python import read_function


def plain(apps, schema_editor):
    Book = apps.get_model("testapp", "Book")
    Book.objects.filter(pages=None).update(pages=0)


def with_using(apps, schema_editor):
    Book = apps.get_model("testapp", "Book")
    alias = schema_editor.connection.alias
    Book.objects.using(alias).filter(pages=None).update(pages=0)
    for book in Book.objects.using(alias).all():
        book.save()


def with_a_manager(apps, schema_editor):
    books = apps.get_model("testapp", "Book").objects.db_manager(
        schema_editor.connection.alias
    )
    books.update(pages=0)


def half(apps, schema_editor):
    Book = apps.get_model("testapp", "Book")
    Shelf = apps.get_model("testapp", "Shelf")
    alias = schema_editor.connection.alias
    for book in Book.objects.using(alias):
        Shelf.objects.create(book=book)


def guarded(apps, schema_editor):
    if schema_editor.connection.alias != "default":
        return
    apps.get_model("testapp", "Book").objects.update(pages=0)
    Book = apps.get_model("testapp", "Book")
    Book.objects.update(pages=0)


def asks_the_router(apps, schema_editor):
    if not router.allow_migrate(schema_editor.connection.alias, "testapp"):
        return
    Book = apps.get_model("testapp", "Book")
    Book.objects.update(pages=0)


def raw(apps, schema_editor):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def raw_on_the_right_one(apps, schema_editor):
    connection = schema_editor.connection
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def hands_on(apps, schema_editor):
    plain(apps, schema_editor)


def with_a_real_model(apps, schema_editor):
    User.objects.using(schema_editor.connection.alias).update(first_name="")


def imports_inside(apps, schema_editor):
    from django.contrib.auth.models import Group

    Group.objects.using(schema_editor.connection.alias).delete()


def names_it_like_a_model(apps, schema_editor):
    User = apps.get_model("auth", "User")
    User.objects.using(schema_editor.connection.alias).update(first_name="")


def nothing(apps, schema_editor):
    pass


@pytest.mark.parametrize(
    ("function", "forgets"),
    [
        (plain, ("Book.objects",)),
        (with_using, ()),
        (with_a_manager, ()),
        (half, ("Shelf.objects",)),
        (guarded, ()),
        (asks_the_router, ()),
        (raw, ("transaction.atomic()", "connection")),
        (raw_on_the_right_one, ()),
        (hands_on, ("Book.objects",)),
        (partial(plain, schema_editor=None), ("Book.objects",)),
        (nothing, ()),
    ],
)
def test_what_a_function_forgets(function, forgets):
    found = read_function(function)
    assert found is not None
    assert sorted(found.forgets) == sorted(forgets)


@pytest.mark.parametrize(
    ("function", "imports"),
    [
        (with_a_real_model, ("User",)),
        (imports_inside, ("Group",)),
        (names_it_like_a_model, ()),
        (plain, ()),
    ],
)
def test_which_models_it_takes_from_the_code(function, imports):
    found = read_function(function)
    assert found is not None
    assert found.imports == imports


def test_what_cannot_be_read_is_not_suspected():
    namespace: dict[str, Any] = {}
    exec("def made(apps, schema_editor): Book.objects.all()", namespace)  # noqa: S102
    assert read_function(namespace["made"]) is None
    assert read_function(print) is None
