"""Property test: random histories lead to the same statements and the same schema with
states that render on demand as with Django's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from django.db import models
from django.db.migrations import (
    AddField,
    AddIndex,
    AlterField,
    CreateModel,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migration_route.planning.lazy_states import LazyProjectState
from tests.planning.parity import APP, Run

pytestmark = pytest.mark.usefixtures("database")

EXAMPLES = 8 if os.environ.get("MIGRATION_ROUTE_TEST_DATABASE") == "mariadb" else 40
"""MariaDB takes seconds for the tables of one history."""

Make = Callable[[], Operation]
"""Makes an operation reexec: fields that Django has used are not used again."""

PLAIN: dict[str, Callable[[], models.Field[Any, Any]]] = {
    "number": lambda: models.IntegerField(null=True),
    "big": lambda: models.BigIntegerField(null=True),
    "text": lambda: models.CharField(max_length=30, default="x"),
    "indexed": lambda: models.CharField(max_length=30, null=True, db_index=True),
    "unique": lambda: models.IntegerField(null=True, unique=True),
}


class Schema:
    """Which models and fields exist, so that the operations drawn are valid ones."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.models: dict[str, dict[str, str]] = {}
        self.references: dict[tuple[str, str], str] = {}
        self.names = iter(f"N{number}" for number in range(1000))

    def operation(self) -> Make:
        """Draw an operation and apply it to the schema."""
        possible = [self.create]
        if self.models:
            possible += [self.add, self.add, self.relate, self.relate, self.widen]
            possible += [self.rename_model, self.index]
            if any(self.models.values()):
                possible += [self.remove, self.rename_field, self.alter]
            if len(self.free()) > 0 and len(self.models) > 1:
                possible.append(self.delete)
        return self.draw(st.sampled_from(possible))()

    def one_of(self, names: Any) -> str:
        return str(self.draw(st.sampled_from(sorted(names))))

    def free(self) -> set[str]:
        """Return the models that no other one refers to."""
        targets = {to for (model, _), to in self.references.items() if to != model}
        return set(self.models) - targets

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
            self.one_of(self.models),
            next(self.names).lower(),
        )
        self.references[model, field] = to
        if self.draw(st.booleans()):
            return lambda: AddField(
                model, field, models.ManyToManyField(f"{APP}.{to}", related_name="+")
            )
        return lambda: AddField(
            model,
            field,
            models.ForeignKey(f"{APP}.{to}", models.CASCADE, null=True, related_name="+"),
        )

    def widen(self) -> Make:
        """Change the type of a key, and so of every column that refers to it."""
        own = [name for name in self.models if (name, "pointer") not in self.references]
        model = self.one_of(own)
        return lambda: AlterField(model, "id", models.BigAutoField(primary_key=True))

    def rename_model(self) -> Make:
        old, new = self.one_of(self.models), next(self.names)
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
        self.references = {
            key: to for key, to in self.references.items() if key[0] != model
        }
        return lambda: DeleteModel(model)


@st.composite
def histories(draw: st.DrawFn) -> list[list[Make]]:
    schema = Schema(draw)
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=6))
    return [[schema.operation() for _ in range(size)] for size in sizes]


def outcome(kind: type[ProjectState], history: list[list[Make]]) -> Any:
    """Return the statements, the schemas and the kind of error, if any."""
    return Run(kind, [[make() for make in makes] for makes in history]).outcome


@given(history=histories())
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_random_history_has_the_outcome_of_django(history: list[list[Make]]) -> None:
    assert outcome(LazyProjectState, history) == outcome(ProjectState, history)
