"""The models that a model state refers to: its bases, and those that its fields name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from django.apps import apps as installed_apps
from django.db.migrations.state import ModelState
from django.db.migrations.utils import resolve_relation
from django.db.models import Field

Key = tuple[str, str]
"""The label of an app and the name of a model in lower case."""

Reference = tuple[Key, bool]
"""A model that another one refers to, and whether its own references are needed as well."""


def references(state: ModelState) -> Iterator[Reference]:
    """Yield the bases of a model and the models that its fields refer to."""
    yield from bases_of(state, is_whole=True)
    for field in state.fields.values():
        if relation := field.remote_field:
            yield _target(relation, field, state)
            if through := getattr(relation, "through", None):
                yield resolve_relation(through, *key_of(state)), True


def key_references(state: ModelState) -> Iterator[Reference]:
    """Yield what determines the types of the columns that refer to this model."""
    yield from bases_of(state, is_whole=False)
    for field in state.fields.values():
        if (relation := field.remote_field) and (field.primary_key or field.unique):
            yield _target(relation, field, state)


def _target(relation: Any, field: Field[Any, Any], state: ModelState) -> Reference:
    """Return the model that a field refers to; if it names the fields there, all that this
    model refers to is needed: a named field may be unique by a constraint only."""
    names = set(getattr(field, "to_fields", ())) - {None}
    return resolve_relation(relation.model, *key_of(state)), bool(names)


def bases_of(state: ModelState, *, is_whole: bool) -> Iterator[Reference]:
    for base in state.bases:
        if isinstance(base, str):
            yield resolve_relation(base, *key_of(state)), is_whole


def key_of(state: ModelState) -> Key:
    return state.app_label, state.name_lower


def bases_first(states: dict[Key, ModelState]) -> list[ModelState]:
    """Return the states, each after its bases: the renderer tries again those that fail."""
    order: dict[Key, ModelState] = {}

    def add(key: Key) -> None:
        if key in states and key not in order:
            for base, _ in bases_of(states[key], is_whole=True):
                add(base)
            order[key] = states[key]

    for key in states:
        add(key)
    return list(order.values())


@cache
def real_models(labels: frozenset[str]) -> list[ModelState]:
    """Return the models of the apps without migrations; they never change."""
    return [
        ModelState.from_model(model, exclude_rels=True)
        for label in sorted(labels)
        for model in installed_apps.get_app_config(label).get_models()
    ]
