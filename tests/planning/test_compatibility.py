"""Tests that each operation is assigned to the safe side of the deploy."""

from __future__ import annotations

import pytest
from django.db import migrations, models
from django.db.migrations.state import ModelState, ProjectState

from migration_route.core.enums import Phase
from migration_route.planning.compatibility import NewObjects, classify_operation

BEFORE, AFTER, ANY = Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY, Phase.ANY


def char(length: int = 20, **words):
    """Return a text column."""
    return models.CharField(max_length=length, **words)


def state() -> ProjectState:
    """Return the state of a shop with an item, and a model without a table."""
    found = ProjectState()
    fields = [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", char()),
        ("note", char(null=True)),
        ("code", char(unique=True)),
        ("size", models.IntegerField()),
        ("price", models.DecimalField(max_digits=6, decimal_places=2)),
        ("stored", char(db_column="kept")),
        ("likes", models.ManyToManyField("shop.item")),
        ("parent", models.ForeignKey("shop.item", models.CASCADE, null=True)),
        ("counted", models.IntegerField(db_default=0)),
    ]
    options = {"unique_together": {("name", "size")}}
    found.add_model(ModelState("shop", "Item", fields, options))
    found.add_model(ModelState("shop", "Fixed", fields[:2], {"db_table": "fixed"}))
    found.add_model(ModelState("shop", "View", fields[:2], {"managed": False}))
    found.add_model(ModelState("shop", "Twin", [], {"proxy": True}, ("shop.item",)))
    return found


def add(name: str, field, model: str = "item"):
    """Return the operation that adds a field."""
    return migrations.AddField(model, name, field)


def alter(name: str, field):
    """Return the operation that alters a field."""
    return migrations.AlterField("item", name, field)


UNIQUE = models.UniqueConstraint(fields=["name"], name="one_name")
SQL = migrations.RunSQL("SELECT 1")

TABLE = {
    "create": (migrations.CreateModel("New", []), BEFORE, False),
    "create a proxy": (migrations.CreateModel("P", [], {"proxy": True}), ANY, False),
    "create unmanaged": (migrations.CreateModel("U", [], {"managed": False}), ANY, False),
    "delete": (migrations.DeleteModel("Item"), AFTER, False),
    "delete unmanaged": (migrations.DeleteModel("View"), ANY, False),
    "rename a model": (migrations.RenameModel("Item", "Thing"), BEFORE, True),
    "rename, same table": (migrations.RenameModel("Fixed", "Other"), ANY, False),
    "another table": (migrations.AlterModelTable("Item", "things"), BEFORE, True),
    "the same table": (migrations.AlterModelTable("Fixed", "fixed"), ANY, False),
    "add a nullable": (add("sku", char(null=True)), BEFORE, False),
    "add with db_default": (add("sku", char(db_default="")), BEFORE, False),
    "add NOT NULL": (add("sku", char(default="")), BEFORE, True),
    "add many to many": (add("x", models.ManyToManyField("shop.item")), BEFORE, False),
    "add to a proxy": (add("x", char(), "twin"), ANY, False),
    "remove a nullable": (migrations.RemoveField("item", "note"), AFTER, False),
    "remove with db_default": (migrations.RemoveField("item", "counted"), AFTER, False),
    "remove NOT NULL": (migrations.RemoveField("item", "name"), AFTER, True),
    "rename a field": (migrations.RenameField("item", "name", "title"), BEFORE, True),
    "rename, same column": (migrations.RenameField("item", "stored", "x"), ANY, False),
    "forbid NULL": (alter("note", char()), AFTER, False),
    "allow NULL": (alter("name", char(null=True)), BEFORE, False),
    "become unique": (alter("name", char(unique=True)), AFTER, False),
    "stop being unique": (alter("code", char()), BEFORE, False),
    "shorter": (alter("name", char(10)), AFTER, False),
    "longer": (alter("name", char(40)), BEFORE, False),
    "longer and NOT NULL": (alter("note", char(40)), BEFORE, True),
    "text without a limit": (alter("name", models.TextField()), BEFORE, False),
    "wider integer": (alter("size", models.BigIntegerField()), BEFORE, False),
    "narrower integer": (alter("size", models.SmallIntegerField()), AFTER, False),
    "only positive": (alter("size", models.PositiveIntegerField()), AFTER, False),
    "more digits": (
        alter("price", models.DecimalField(max_digits=8, decimal_places=2)),
        BEFORE,
        False,
    ),
    "fewer whole digits": (
        alter("price", models.DecimalField(max_digits=6, decimal_places=4)),
        BEFORE,
        True,
    ),
    "another kind": (alter("name", models.IntegerField()), BEFORE, True),
    "another column": (alter("name", char(db_column="n")), BEFORE, True),
    "only words": (alter("name", char(verbose_name="x", blank=True)), ANY, False),
    "lose db_default": (alter("counted", models.IntegerField()), AFTER, False),
    "another target": (
        alter("parent", models.ForeignKey("shop.fixed", models.CASCADE, null=True)),
        BEFORE,
        True,
    ),
    "no constraint": (
        alter(
            "parent",
            models.ForeignKey("shop.item", models.CASCADE, null=True, db_constraint=False),
        ),
        BEFORE,
        False,
    ),
    "add a constraint": (migrations.AddConstraint("item", UNIQUE), AFTER, False),
    "remove a constraint": (migrations.RemoveConstraint("item", "x"), BEFORE, False),
    "unique together": (
        migrations.AlterUniqueTogether("item", {("name", "size"), ("code", "size")}),
        AFTER,
        False,
    ),
    "not unique together": (migrations.AlterUniqueTogether("item", set()), BEFORE, False),
    "another unique together": (
        migrations.AlterUniqueTogether("item", {("code", "size")}),
        BEFORE,
        True,
    ),
    "order": (migrations.AlterOrderWithRespectTo("item", "parent"), BEFORE, True),
    "no order": (migrations.AlterOrderWithRespectTo("item", None), AFTER, False),
    "index": (
        migrations.AddIndex("item", models.Index(fields=["name"], name="i")),
        ANY,
        False,
    ),
    "options": (migrations.AlterModelOptions("item", {"ordering": ["id"]}), ANY, False),
    "python": (migrations.RunPython(migrations.RunPython.noop), ANY, False),
    "sql": (SQL, ANY, False),
    "sql with words": (
        migrations.RunSQL(
            "SELECT 1", state_operations=[migrations.RemoveField("item", "note")]
        ),
        AFTER,
        False,
    ),
    "state alone": (
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.DeleteModel("Item")]
        ),
        ANY,
        False,
    ),
    "code and state": (
        migrations.SeparateDatabaseAndState(
            [SQL], [migrations.AlterField("item", "note", char())]
        ),
        AFTER,
        False,
    ),
    "database alone": (
        migrations.SeparateDatabaseAndState([migrations.DeleteModel("Item")]),
        AFTER,
        False,
    ),
    "both in one": (
        migrations.SeparateDatabaseAndState(
            [add("sku", char(null=True)), migrations.RemoveField("item", "note")]
        ),
        BEFORE,
        True,
    ),
}


@pytest.mark.parametrize(("operation", "phase", "unsafe"), TABLE.values(), ids=TABLE.keys())
def test_the_side_of_an_operation(operation, phase, unsafe):
    """Additions come before, removals and stricter constraints after, and an operation that
    is safe on neither side has a reason."""
    found = classify_operation(operation, "shop", state(), NewObjects())
    assert (found.phase, bool(found.unsafe)) == (phase, unsafe)
    assert found.why


@pytest.mark.parametrize(
    "operation",
    [
        migrations.DeleteModel("Item"),
        migrations.RemoveField("item", "name"),
        migrations.AddConstraint("item", UNIQUE),
        migrations.RenameField("item", "name", "title"),
        migrations.AlterField("item", "note", char()),
        migrations.RenameModel("Item", "Thing"),
        add("sku", char(default="")),
    ],
    ids=lambda operation: type(operation).__name__,
)
def test_a_table_that_the_plan_makes_itself_is_nobodys_yet(operation):
    """Nothing done to it breaks a running release."""
    found = classify_operation(
        operation, "shop", state(), NewObjects(models={("shop", "item")})
    )
    assert found.phase in {BEFORE, ANY}
    assert not found.unsafe


def test_a_column_that_the_plan_adds_itself_may_go_at_once():
    """No running release reads it."""
    novel = NewObjects(fields={("shop", "item", "name")})
    removal = migrations.RemoveField("item", "name")
    assert classify_operation(removal, "shop", state(), novel).phase is ANY


@pytest.mark.parametrize(
    ("operation", "phase"),
    [
        (add("sku", char(null=True)), AFTER),
        (migrations.RemoveField("item", "note"), BEFORE),
        (migrations.AddConstraint("item", UNIQUE), BEFORE),
        (migrations.RenameField("item", "name", "title"), BEFORE),
        (SQL, ANY),
    ],
    ids=["add", "remove", "tighten", "rename", "data"],
)
def test_on_the_way_back_the_sides_change_places(operation, phase):
    """An addition is removed after the old release is back; a rename is safe on neither
    side."""
    assert (
        classify_operation(operation, "shop", state(), NewObjects()).backwards().phase
        is phase
    )


def test_the_sentences_speak_of_the_two_releases():
    """They contain the placeholders that the plan replaces by names, and no others."""
    for operation, *_ in TABLE.values():
        found = classify_operation(operation, "shop", state(), NewObjects())
        text = found.why + found.unsafe
        assert "<" not in text.replace("<old>", "").replace("<new>", "")
