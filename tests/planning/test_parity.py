"""Tests that chosen migrations have the same statements, schema and recorder with states
that render on demand as with Django's own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import models
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    AlterModelTable,
    AlterOrderWithRespectTo,
    AlterUniqueTogether,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameIndex,
    RenameModel,
    SeparateDatabaseAndState,
)

from tests.planning.parity import (
    APP,
    Steps,
    assert_parity,
    create,
    foreign,
    one_to_one,
    text,
)

pytestmark = pytest.mark.usefixtures("database")


def added_and_altered() -> Steps:
    """On SQLite the order of the columns depends on the order of rendering."""
    return [
        [create("A", ("first", text()), ("second", text()))],
        [AddField("A", "third", models.IntegerField(default=1))],
        [AlterField("A", "first", models.CharField(max_length=30, default="x"))],
        [RemoveField("A", "second"), AddField("A", "fourth", text(db_index=True))],
    ]


def key_becomes_big() -> Steps:
    """The columns that refer to the key, directly or through another key, change too."""
    return [
        [
            create("A", ("name", text())),
            create("B", ("a", foreign("A"))),
            create("C", ("many", models.ManyToManyField(f"{APP}.A"))),
            create("D", ("a", one_to_one("A", primary_key=True))),
            create("E", ("d", foreign("D"))),
        ],
        [AddField("B", "size", models.IntegerField(null=True))],
        [AlterField("A", "id", models.BigAutoField(primary_key=True))],
    ]


def renamed_field_with_references() -> Steps:
    """The fields that name a renamed field are changed in place by Django."""
    return [
        [
            create("A", ("code", text(unique=True, default=None))),
            create("B", ("a", foreign("A", to_field="code"))),
        ],
        [
            RenameField("A", "code", "label"),
            AddField("B", "size", models.IntegerField(null=True)),
        ],
        [AlterField("A", "label", models.CharField(max_length=40, unique=True))],
    ]


def renamed_model() -> Steps:
    return [
        [
            create("A", ("parent", foreign("A"))),
            create(
                "B", ("a", foreign("A")), ("others", models.ManyToManyField(f"{APP}.A"))
            ),
        ],
        [RenameModel("A", "Renamed")],
        [AddField("Renamed", "name", text()), RenameField("B", "a", "renamed")],
    ]


def many_to_many() -> Steps:
    return [
        [create("A"), create("B", ("many", models.ManyToManyField(f"{APP}.A")))],
        [
            create("Link", ("a", foreign("A")), ("b", foreign("B"))),
            AddField(
                "B",
                "linked",
                models.ManyToManyField(
                    f"{APP}.A", through=f"{APP}.Link", related_name="linked_b"
                ),
            ),
        ],
        [AlterModelTable("B", "lazy_b_elsewhere")],
        [AlterField("B", "many", models.ManyToManyField(f"{APP}.A", related_name="bs"))],
        [RemoveField("B", "many")],
    ]


def inheritance_and_proxies() -> Steps:
    parent = models.OneToOneField(
        f"{APP}.Parent",
        models.CASCADE,
        parent_link=True,
        auto_created=True,
        primary_key=True,
        serialize=False,
    )
    return [
        [create("Parent", ("name", text()))],
        [
            CreateModel(
                "Child",
                [("parent_ptr", parent), ("size", models.IntegerField(null=True))],
                bases=(f"{APP}.parent",),
            ),
            CreateModel("Proxy", [], options={"proxy": True}, bases=(f"{APP}.child",)),
            create("D", ("proxy", foreign("Proxy"))),
        ],
        [AlterField("Parent", "id", models.BigAutoField(primary_key=True))],
        [AddField("Child", "other", foreign("Parent", related_name="others"))],
    ]


def options_and_constraints() -> Steps:
    return [
        [create("A", ("x", models.IntegerField()), ("y", models.IntegerField(default=0)))],
        [
            AddIndex("A", models.Index(fields=["x"], name="lazy_a_x")),
            AddConstraint(
                "A", models.CheckConstraint(condition=models.Q(x__gt=0), name="lazy_gt")
            ),
            AlterUniqueTogether("A", {("x", "y")}),
        ],
        [RenameIndex("A", new_name="lazy_a_xx", old_name="lazy_a_x")],
        [create("B", ("a", foreign("A")))],
        [AlterOrderWithRespectTo("B", "a")],
        [AlterUniqueTogether("A", set())],
    ]


def defaults_of_the_database() -> Steps:
    total = models.GeneratedField(
        expression=models.F("x") + models.F("y"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    return [
        [
            create(
                "A", ("x", models.IntegerField(db_default=1)), ("y", models.IntegerField())
            )
        ],
        [AddField("A", "total", total)],
        [AddField("A", "named", text(default=models.NOT_PROVIDED, db_default="n"))],
    ]


def state_and_database_apart() -> Steps:
    return [
        [create("A", ("x", models.IntegerField()))],
        [
            SeparateDatabaseAndState(
                database_operations=[AddField("A", "y", models.IntegerField(null=True))],
                state_operations=[AddField("A", "y", models.IntegerField(null=True))],
            )
        ],
        [AlterField("A", "y", models.BigIntegerField(null=True))],
    ]


def removed_and_made_again() -> Steps:
    return [
        [create("A", ("x", text())), create("B", ("a", foreign("A")))],
        [RemoveField("B", "a"), DeleteModel("A")],
        [create("A", ("y", models.IntegerField())), AddField("B", "a", foreign("A"))],
        [AddField("A", "z", text())],
    ]


SCENARIOS = [
    added_and_altered,
    key_becomes_big,
    renamed_field_with_references,
    renamed_model,
    many_to_many,
    inheritance_and_proxies,
    options_and_constraints,
    defaults_of_the_database,
    state_and_database_apart,
    removed_and_made_again,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_the_outcome_is_that_of_django(scenario: Callable[[], Steps]):
    assert_parity(scenario)


def test_a_parent_may_be_removed_before_its_child():
    """The child keeps the class of its parent, as in Django."""

    def steps() -> Steps:
        return [
            [
                create("A", ("name", text())),
                create("B", ("a", foreign("A", db_constraint=False))),
            ],
            [DeleteModel("A")],
            [RemoveField("B", "a")],
            [DeleteModel("B")],
        ]

    assert_parity(steps, back=False)
