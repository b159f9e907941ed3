"""Property test: random histories lead to the same statements and the same schema with
states that render on demand as with Django's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from django import VERSION
from django.db import connections, models
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    AlterModelTable,
    AlterUniqueTogether,
    CreateModel,
    DeleteModel,
    RemoveConstraint,
    RemoveField,
    RenameField,
    RenameModel,
    RunPython,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from migration_route.planning.lazy_states import LazyProjectState
from tests.planning.parity import APP, Run, Together

pytestmark = pytest.mark.usefixtures("database")

IS_MARIADB = os.environ.get("MIGRATION_ROUTE_TEST_DATABASE") == "mariadb"

EXAMPLES = int(os.environ.get("MIGRATION_ROUTE_FUZZ", 6 if IS_MARIADB else 25))
"""MariaDB takes seconds for the tables of one history."""

Make = Callable[[], Operation]
"""Makes an operation reexec: fields that Django has used are not used again."""

PLAIN: dict[str, Callable[[], models.Field[Any, Any]]] = {
    "number": lambda: models.IntegerField(null=True),
    "big": lambda: models.BigIntegerField(null=True),
    "text": lambda: models.CharField(max_length=30, default="x"),
    "indexed": lambda: models.CharField(max_length=30, null=True, db_index=True),
    "unique": lambda: models.IntegerField(null=True, unique=True),
    "defaulted": lambda: models.IntegerField(db_default=3),
}

NUMBERS = {"number", "big", "unique", "defaulted"}


def follow(model: str) -> Callable[[Any, Any], None]:
    """Return Python that reads a table, and every relation to it."""

    def code(apps: Any, editor: Any) -> None:
        found = apps.get_model(APP, model)
        assert list(found.objects.all()) == []
        for other in apps.get_app_config(APP).get_models():
            for field in other._meta.local_fields:
                if (relation := field.remote_field) and relation.model is found:
                    name = relation.get_accessor_name()
                    assert name is None or hasattr(found, name)

    return code


class Schema:
    """Which models and fields exist, so that the operations drawn are valid ones."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.models: dict[str, dict[str, str]] = {}
        self.references: dict[tuple[str, str], str] = {}
        self.bases: dict[str, str] = {}
        self.proxies: set[str] = set()
        self.constraints: dict[str, str] = {}
        self.supports = connections["default"].features
        self.names = iter(f"N{number}" for number in range(1000))

    def operation(self) -> Make:
        """Draw an operation and apply it to the schema."""
        possible = [self.create]
        if self.models:
            possible += [self.add, self.add, self.relate, self.relate, self.widen]
            possible += [self.index, self.together, self.inherit, self.python]
            if any(self.models.values()):
                possible += [self.remove, self.rename_field, self.alter, self.generate]
                possible += [self.constrain, self.wrap]
            if self.constraints:
                possible.append(self.release)
            if self.without_children():
                possible += [self.rename_model, self.table]
            if len(self.free()) > 0 and len(self.models) > 1:
                possible.append(self.delete)
        return self.draw(st.sampled_from(possible))()

    def wrap(self) -> Make:
        """Make another operation a part of one."""
        make = self.operation()
        if self.draw(st.booleans()):
            return lambda: Together(make())
        return lambda: SeparateDatabaseAndState([make()], [make()])

    def one_of(self, names: Any) -> str:
        return str(self.draw(st.sampled_from(sorted(names))))

    def free(self) -> set[str]:
        """Return the models that no other one refers to."""
        targets = {to for (model, _), to in self.references.items() if to != model}
        return set(self.models) - targets - set(self.bases.values())

    def without_children(self) -> set[str]:
        """Return the models whose name and table no other class has."""
        return set(self.models) - set(self.bases.values())

    def create(self) -> Make:
        name, kind = next(self.names), self.one_of(PLAIN)
        self.models[name] = {"first": kind}
        parent = self.one_of([*self.models, ""])
        if parent and parent != name:
            self.references[name, "pointer"] = parent
            return lambda: CreateModel(
                name,
                [
                    (
                        "pointer",
                        models.OneToOneField(
                            f"{APP}.{parent}", models.CASCADE, primary_key=True
                        ),
                    ),
                    ("first", PLAIN[kind]()),
                ],
            )
        return lambda: CreateModel(
            name, [("id", models.AutoField(primary_key=True)), ("first", PLAIN[kind]())]
        )

    def add(self) -> Make:
        model, kind, field = self.one_of(self.models), self.one_of(PLAIN), next(self.names)
        self.models[model][field.lower()] = kind
        return lambda: AddField(model, field.lower(), PLAIN[kind]())

    def relate(self) -> Make:
        model, to, field = (
            self.one_of(self.models),
            self.one_of([*self.models, *self.proxies]),
            next(self.names).lower(),
        )
        reverse = f"of_{field}"
        self.references[model, field] = to
        if self.draw(st.booleans()):
            return lambda: AddField(
                model, field, models.ManyToManyField(f"{APP}.{to}", related_name=reverse)
            )
        return lambda: AddField(
            model,
            field,
            models.ForeignKey(
                f"{APP}.{to}", models.CASCADE, null=True, related_name=reverse
            ),
        )

    def widen(self) -> Make:
        """Change the type of a key, and so of every column that refers to it."""
        own = [name for name in self.models if (name, "pointer") not in self.references]
        if not own:
            return self.create()
        model = self.one_of(own)
        return lambda: AlterField(model, "id", models.BigAutoField(primary_key=True))

    def rename_model(self) -> Make:
        old, new = self.one_of(self.without_children()), next(self.names)
        self.bases = {new if name == old else name: to for name, to in self.bases.items()}
        self.constraints = {
            name: new if model == old else model for name, model in self.constraints.items()
        }
        self.models[new] = self.models.pop(old)
        self.references = {
            (new if model == old else model, field): new if to == old else to
            for (model, field), to in self.references.items()
        }
        return lambda: RenameModel(old, new)

    def index(self) -> Make:
        model, name = self.one_of(self.models), next(self.names).lower()
        key = "pointer" if (model, "pointer") in self.references else "id"
        return lambda: AddIndex(model, models.Index(fields=[key], name=f"lazy_{name}"))

    def together(self) -> Make:
        """Change an option that names fields."""
        model = self.one_of(self.models)
        names = set(self.draw(st.permutations(sorted(self.models[model])))[:2])
        fields = {tuple(sorted(names))} if len(names) == 2 else set()
        return lambda: AlterUniqueTogether(model, fields)

    def inherit(self) -> Make:
        """Create a proxy of a model, or a child with a table of its own."""
        base, name = self.one_of(self.models), next(self.names)
        self.bases[name] = base
        if self.draw(st.booleans()):
            self.proxies.add(name)
            return lambda: CreateModel(
                name, [], options={"proxy": True}, bases=(f"{APP}.{base.lower()}",)
            )
        self.models[name] = {}
        self.references[name, "pointer"] = base

        def child() -> Operation:
            link = models.OneToOneField(
                f"{APP}.{base}", models.CASCADE, parent_link=True, primary_key=True
            )
            return CreateModel(name, [("pointer", link)], bases=(f"{APP}.{base.lower()}",))

        return child

    def table(self) -> Make:
        model, name = self.one_of(self.without_children()), next(self.names).lower()
        return lambda: AlterModelTable(model, f"lazy_table_{name}")

    def python(self) -> Make:
        models = [*self.models, *self.proxies]
        if VERSION < (6, 1):
            # There, a child lacks a field that its parent has just got, until another
            # operation renders it.
            models = [model for model in self.models if model not in self.bases]
        model = self.one_of(models)
        return lambda: RunPython(follow(model), follow(model))

    def _number(self) -> tuple[str, str] | None:
        """Return a field that contains numbers, if there is one."""
        found = [
            (model, name)
            for model, fields in self.models.items()
            for name, kind in fields.items()
            if kind in NUMBERS
        ]
        return self.draw(st.sampled_from(sorted(found))) if found else None

    def generate(self) -> Make:
        """Add a column that the database computes from another one."""
        found, name = self._number(), next(self.names).lower()
        is_stored = self.draw(st.booleans())
        supported = (
            self.supports.supports_stored_generated_columns
            if is_stored
            else self.supports.supports_virtual_generated_columns
        )
        if found is None or not supported:
            return self.add()
        model, field = found

        def add() -> Operation:
            expression = models.F(field) + models.Value(1)
            kind = models.GeneratedField(
                expression=expression,
                output_field=models.BigIntegerField(),
                db_persist=is_stored,
            )
            return AddField(model, name, kind)

        return add

    def constrain(self) -> Make:
        found, name = self._number(), f"lazy_{next(self.names).lower()}"
        if found is None:
            return self.add()
        model, field = found
        self.constraints[name] = model
        condition = models.Q(**{f"{field}__gt": 0})
        if self.supports.supports_partial_indexes and self.draw(st.booleans()):
            return lambda: AddConstraint(
                model,
                models.UniqueConstraint(fields=[field], condition=condition, name=name),
            )
        return lambda: AddConstraint(
            model, models.CheckConstraint(condition=condition, name=name)
        )

    def release(self) -> Make:
        name = self.one_of(self.constraints)
        model = self.constraints.pop(name)
        return lambda: RemoveConstraint(model, name)

    def _field(self) -> tuple[str, str]:
        model = self.one_of(name for name, fields in self.models.items() if fields)
        return model, self.one_of(self.models[model])

    def remove(self) -> Make:
        model, field = self._field()
        del self.models[model][field]
        return lambda: RemoveField(model, field)

    def rename_field(self) -> Make:
        (model, old), new = self._field(), next(self.names).lower()
        self.models[model][new] = self.models[model].pop(old)
        return lambda: RenameField(model, old, new)

    def alter(self) -> Make:
        model, field = self._field()
        kind = self.one_of(PLAIN)
        if self.models[model][field] in {"text", "indexed"}:
            kind = self.one_of(["text", "indexed"])  # a text may be no number
        self.models[model][field] = kind
        return lambda: AlterField(model, field, PLAIN[kind]())

    def delete(self) -> Make:
        model = self.one_of(self.free())
        del self.models[model]
        self.bases.pop(model, None)
        self.constraints = {
            name: of for name, of in self.constraints.items() if of != model
        }
        self.references = {
            key: to for key, to in self.references.items() if key[0] != model
        }
        return lambda: DeleteModel(model)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Make]]:
    schema = Schema(draw)
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    return [[schema.operation() for _ in range(size)] for size in sizes]


@given(history=histories())
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_random_history_has_the_outcome_of_django(history: list[list[Make]]) -> None:
    eager, lazy = (
        Run(kind, [[make() for make in makes] for makes in history])
        for kind in (ProjectState, LazyProjectState)
    )
    event(f"ends with {type(eager.error).__name__}")
    assert lazy.outcome == eager.outcome
