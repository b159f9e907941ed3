"""Tests that features of models which few projects use have the same statements, schema and
recorder with states that render on demand as with Django's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, models
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    AlterModelOptions,
    AlterModelTable,
    AlterModelTableComment,
    AlterOrderWithRespectTo,
    AlterUniqueTogether,
    CreateModel,
    DeleteModel,
    RemoveConstraint,
    RemoveField,
    RemoveIndex,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation
from django.db.models.functions import Lower, Now

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


def number(**words: Any) -> models.IntegerField[Any, Any]:
    return models.IntegerField(**{"default": 0, **words})


def features() -> Any:
    return connections["default"].features


def big_key(model: str) -> Operation:
    return AlterField(model, "id", models.BigAutoField(primary_key=True))


def database_defaults() -> Steps:
    steps: Steps = [
        [create("A", ("x", models.IntegerField(db_default=1)), ("y", text()))],
        [
            AddField("A", "named", text(default=models.NOT_PROVIDED, db_default="n")),
            AlterField("A", "x", models.IntegerField(db_default=2)),
        ],
        [AlterField("A", "x", models.BigIntegerField())],
        [AlterField("A", "y", text(default=models.NOT_PROVIDED, db_default="y"))],
        [create("B", ("a", foreign("A", db_default=1))), big_key("A")],
    ]
    if features().supports_expression_defaults:
        steps += [
            [AddField("B", "made", models.DateTimeField(db_default=Now()))],
            [RenameField("B", "made", "created")],
            [AlterField("B", "created", models.DateTimeField(null=True))],
        ]
    return steps


def total(**words: Any) -> models.GeneratedField:
    words = {"output_field": models.IntegerField(), "db_persist": True, **words}
    return models.GeneratedField(expression=models.F("x") + models.F("y"), **words)


def generated_fields() -> Steps:
    steps: Steps = [
        [
            create("A", ("x", number()), ("y", number())),
            create("B", ("a", foreign("A"))),
        ],
        [AddField("A", "total", total())],
        [AddField("A", "z", number()), AlterField("A", "z", models.BigIntegerField())],
        [RenameField("A", "total", "both"), AddIndex("A", index("both"))],
        [big_key("A"), RemoveField("A", "z")],
    ]
    if features().supports_virtual_generated_columns:
        steps += [
            [AddField("A", "virtual", total(db_persist=False))],
            [AddField("B", "later", number())],
            [RemoveField("A", "virtual")],
        ]
    return steps if features().supports_stored_generated_columns else steps[:1]


def column_of_a_generated_field() -> Steps:
    """Removed before the column changes, and made again for its new name."""
    renamed = models.GeneratedField(
        expression=models.F("z") + models.F("y"),
        output_field=models.BigIntegerField(),
        db_persist=True,
    )
    return [
        [create("A", ("x", number()), ("y", number()), ("total", total()))],
        [
            RemoveField("A", "total"),
            RenameField("A", "x", "z"),
            AlterField("A", "z", models.BigIntegerField(default=0)),
            AddField("A", "total", renamed),
        ],
        [AddField("A", "last", number(null=True))],
    ]


def index(*names: str, name: str = "", **words: Any) -> models.Index:
    return models.Index(fields=[*names], name=name or f"lazy_{'_'.join(names)}", **words)


def at_least(field: str, least: int) -> models.CheckConstraint:
    condition = models.Q(**{f"{field}__gte": least})
    return models.CheckConstraint(condition=condition, name="lazy_least")


def constraints() -> Steps:
    """A constraint that names a renamed field is removed before, and made again after."""
    unique = models.UniqueConstraint(fields=["x", "y"], name="lazy_xy")
    return [
        [create("A", ("x", number()), ("y", number()), options={"constraints": [unique]})],
        [AddConstraint("A", at_least("x", 0)), AddField("A", "z", number())],
        [create("B", ("a", foreign("A")), ("name", text()))],
        [
            RemoveConstraint("A", "lazy_least"),
            RemoveConstraint("A", "lazy_xy"),
            RenameField("A", "x", "renamed"),
            AddConstraint("A", at_least("renamed", -1)),
        ],
        [AlterField("A", "renamed", models.BigIntegerField(default=0)), big_key("A")],
        [AlterUniqueTogether("A", {("renamed", "y")}), RenameField("A", "y", "why")],
        [AddIndex("A", index("why", "-renamed", name="lazy_both"))],
        [RenameModel("A", "Other"), RemoveIndex("Other", "lazy_both")],
    ]


def constraints_with_conditions() -> Steps:
    added: list[Operation] = []
    unique = models.UniqueConstraint
    if features().supports_partial_indexes:
        some = models.Q(x__gt=0)
        added.append(
            AddConstraint("A", unique(fields=["y"], condition=some, name="lazy_some"))
        )
        added.append(AddIndex("A", index("x", condition=some)))
    if features().supports_expression_indexes:
        added.append(AddConstraint("A", unique(Lower("name"), name="lazy_lower")))
        added.append(AddIndex("A", models.Index(Lower("name").desc(), name="lazy_desc")))
    if features().supports_covering_indexes:
        added.append(
            AddConstraint("A", unique(fields=["x"], include=["y"], name="lazy_with"))
        )
    if features().supports_deferrable_unique_constraints:
        late = models.Deferrable.DEFERRED
        added.append(
            AddConstraint("A", unique(fields=["x"], deferrable=late, name="lazy_late"))
        )
    if features().supports_nulls_distinct_unique_constraints:
        added.append(
            AddConstraint(
                "A", unique(fields=["x"], nulls_distinct=False, name="lazy_nulls")
            )
        )
    return [
        [create("A", ("x", number()), ("y", number()), ("name", text()))],
        [create("B", ("a", foreign("A")))],
        added,
        [AddField("A", "z", number()), big_key("A")],
        [RenameField("A", "z", "last"), AlterField("A", "last", number(null=True))],
    ]


def reference_to_a_column_that_is_unique_by_a_constraint() -> Steps:
    """The type of a key may depend on a field that is not unique by itself."""
    unique = models.UniqueConstraint(fields=["b"], name="lazy_once")
    return [
        [
            create("B", ("code", models.CharField(max_length=5, unique=True))),
            create(
                "A",
                ("b", foreign("B", to_field="code", null=False)),
                options={"constraints": [unique]},
            ),
            create(
                "C",
                ("a", one_to_one("A", to_field="b", primary_key=True)),
            ),
        ],
        [create("D", ("c", foreign("C")))],
        [AddField("D", "size", number())],
        [AlterField("D", "c", foreign("C", null=False, default=1))],
    ]


def inherited() -> Steps:
    link = models.OneToOneField(
        f"{APP}.Parent",
        models.CASCADE,
        parent_link=True,
        auto_created=True,
        primary_key=True,
        serialize=False,
    )
    fields = [("parent_ptr", link), ("size", number())]
    return [
        [create("Parent", ("name", text())), create("Other", ("name", text()))],
        [
            CreateModel("Child", fields, bases=(f"{APP}.parent",)),
            CreateModel("View", [], options={"proxy": True}, bases=(f"{APP}.child",)),
            CreateModel("Again", [], options={"proxy": True}, bases=(f"{APP}.view",)),
        ],
        [
            create("D", ("view", foreign("Again")), ("child", one_to_one("Child"))),
            AddField("Other", "views", models.ManyToManyField(f"{APP}.View")),
        ],
        [RenameField("Parent", "name", "title"), big_key("Parent")],
        [RenameModel("Again", "Sight"), RenameModel("D", "E")],
        [AlterModelOptions("Sight", {"verbose_name": "x", "ordering": ["size"]})],
        [AlterField("Child", "size", models.BigIntegerField(null=True))],
    ]


def renamed_base_of_a_proxy() -> Steps:
    """Django keeps the old name in the bases of the proxy, and the class that it has."""
    return [
        [create("A", ("name", text()))],
        [CreateModel("Proxy", [], options={"proxy": True}, bases=(f"{APP}.a",))],
        [create("B", ("a", foreign("A")))],
        [RenameModel("A", "Renamed")],
        [AddField("B", "size", number()), RenameField("B", "a", "other")],
    ]


def renamed_parent() -> Steps:
    """Django keeps the old name in the bases of the child."""
    return [*inherited(), [RenameModel("Parent", "Root")], [big_key("Root")]]


class MoveBase(Operation):
    """Changes the bases of a model, which no operation of Django does."""

    reduces_to_sql = True

    def __init__(self, name: str, *bases: Any) -> None:
        self.name, self.bases = name, bases

    def state_forwards(self, app_label: str, state: Any) -> None:
        state.models[app_label, self.name.lower()].bases = self.bases
        state.reload_model(app_label, self.name.lower())

    def database_forwards(self, *about: Any) -> None:
        """The fields decide what is in the database."""

    def database_backwards(self, *about: Any) -> None:
        """As forwards."""


def moved_bases() -> Steps:
    """Fields of a parent move to its children, whose base changes."""
    link = models.OneToOneField(
        f"{APP}.Old", models.CASCADE, parent_link=True, primary_key=True, serialize=False
    )
    return [
        [create("Old", ("name", text())), create("New", ("title", text()))],
        [
            CreateModel(
                "Child", [("old_ptr", link), ("size", number())], bases=(f"{APP}.old",)
            )
        ],
        [
            MoveBase("Child", models.Model),
            AlterField("Child", "old_ptr", one_to_one("Old", primary_key=True)),
            AddField("Child", "name", text()),
        ],
        [create("E", ("child", foreign("Child"))), big_key("Old")],
        [CreateModel("Proxy", [], options={"proxy": True}, bases=(f"{APP}.old",))],
        [MoveBase("Proxy", f"{APP}.new"), AddField("E", "proxy", foreign("Proxy"))],
    ]


def ordered_and_linked() -> Steps:
    through = models.ManyToManyField(
        f"{APP}.A",
        through=f"{APP}.Link",
        through_fields=("b", "a"),
        related_name="linked",
    )
    return [
        [create("A", ("name", text())), create("B", ("a", foreign("A")))],
        [
            create(
                "Link",
                ("a", foreign("A")),
                ("b", foreign("B")),
                ("also", foreign("A", related_name="+")),
            ),
            AddField("B", "linked", through),
        ],
        [AlterOrderWithRespectTo("B", "a"), AddField("B", "size", number())],
        [AlterModelTable("B", "lazy_of_b"), RenameModel("Link", "Tie")],
        [RenameField("Tie", "also", "too"), RenameModel("B", "Bee")],
        [big_key("A"), big_key("Bee"), AlterField("Tie", "a", foreign("A", null=False))],
        [AlterOrderWithRespectTo("Bee", None), RemoveField("Bee", "linked")],
        [DeleteModel("Tie")],
    ]


def unmanaged_and_commented() -> Steps:
    steps: Steps = [
        [create("A", ("x", number()), options={"managed": False, "db_table": "nowhere"})],
        [create("B", ("a", foreign("A", db_constraint=False)))],
        [AlterModelOptions("A", {"managed": True}), AddField("B", "size", number())],
        [AlterModelOptions("B", {"managed": False}), AddField("B", "none", number())],
    ]
    if features().supports_comments:
        steps += [
            [AlterModelOptions("B", {"managed": True})],
            [AlterModelTableComment("B", "a comment")],
            [AlterField("B", "size", number(db_comment="of a column"))],
        ]
    return steps


SCENARIOS = [
    column_of_a_generated_field,
    constraints,
    constraints_with_conditions,
    database_defaults,
    generated_fields,
    inherited,
    moved_bases,
    ordered_and_linked,
    renamed_base_of_a_proxy,
    reference_to_a_column_that_is_unique_by_a_constraint,
    unmanaged_and_commented,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_the_outcome_is_that_of_django(scenario: Callable[[], Steps]):
    assert_parity(scenario)


def test_a_parent_that_cannot_be_renamed_is_left_alone():
    """Django fails before it sends anything."""
    assert_parity(renamed_parent, may_fail=True)
