"""Computes what an operation changes, by comparing the project states before and after it.

Because states are compared, reversals and custom operations are read like any other. It
also compares field types: whether a column becomes narrower or another type. Fields are
read as they are in a project state, where they know neither their model nor their name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import AlterModelManagers, AlterModelOptions
from django.db.migrations.operations import RenameField, RenameModel
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import (
    NOT_PROVIDED,
    CheckConstraint,
    F,
    Field,
    ForeignKey,
    UniqueConstraint,
)

from migration_route.planning.changes.types import ChangeKind, SchemaChange

logger = logging.getLogger("migration_route.planning")

_TEXTS = {"CharField", "SlugField", "FileField", "FilePathField", "TextField"}
_INTEGERS = {
    "SmallIntegerField": 2,
    "PositiveSmallIntegerField": 2,
    "SmallAutoField": 2,
    "IntegerField": 4,
    "PositiveIntegerField": 4,
    "AutoField": 4,
    "BigIntegerField": 8,
    "PositiveBigIntegerField": 8,
    "BigAutoField": 8,
}
_HARMLESS = {("DateField", "DateTimeField"), ("IPAddressField", "GenericIPAddressField")}


def column_of(name: str, field: Field[Any, Any]) -> str:
    """Return the column of a field; "" for one that has none."""
    if field.many_to_many or field.get_internal_type() == "CompositePrimaryKey":
        return ""
    if field.db_column:
        return field.db_column
    return f"{name}_id" if isinstance(field, ForeignKey) else name


def needs_value(field: Field[Any, Any]) -> bool:
    """Return whether an INSERT that does not name the column fails: Django removes its own
    default from the database again (Django's reference, "Field.db_default")."""
    if field.null or field.primary_key or getattr(field, "generated", False):
        return False
    return field.db_default is NOT_PROVIDED


def fills_nulls(field: Field[Any, Any]) -> bool:
    """Return whether AlterField fills rows that have no value."""
    return bool(field.has_default() or (field.blank and field.empty_strings_allowed))


def changes_reference(old: Field[Any, Any], new: Field[Any, Any]) -> bool:
    """Return whether the values of a column must now exist in another table."""
    if not _is_constrained(new):
        return False
    return not _is_constrained(old) or _target(old) != _target(new)


def _is_constrained(field: Any) -> bool:
    """Return whether the database checks a field's values against another table."""
    return bool(field.many_to_one or field.one_to_one) and bool(field.db_constraint)


def _target(field: Any) -> str:
    model = field.remote_field.model
    label = model if isinstance(model, str) else model._meta.label
    return label.lower()


def compare_types(
    old: Field[Any, Any], new: Field[Any, Any], connection: BaseDatabaseWrapper
) -> tuple[ChangeKind, str] | None:
    """Return how the new type is narrower or different; None where every value still
    fits."""
    if isinstance(old, ForeignKey) or isinstance(new, ForeignKey):
        return _compared_to_foreign_key(new, connection)
    types = (old.get_internal_type(), new.get_internal_type())
    if types in _HARMLESS:
        return None
    if types[0] in _TEXTS and types[1] in _TEXTS:
        return _shorter(old, new)
    if types[0] in _INTEGERS and types[1] in _INTEGERS:
        return _smaller(*types)
    if types == ("DecimalField", "DecimalField"):
        return _less_precise(old, new)
    written = (_db_type_of(old, connection), _db_type_of(new, connection))
    if None in written or written[0] == written[1]:
        return None
    return ChangeKind.COLUMN_RETYPED, f"from {written[0]} to {written[1]}"


def _compared_to_foreign_key(
    new: Field[Any, Any], connection: BaseDatabaseWrapper
) -> tuple[ChangeKind, str] | None:
    """Compare with a foreign key, whose type depends on its target; most are numbers."""
    kind = new.get_internal_type()
    if isinstance(new, ForeignKey) or kind in _INTEGERS or kind == "UUIDField":
        return None
    written = _db_type_of(new, connection)
    return ChangeKind.COLUMN_RETYPED, f"from the type of a foreign key to {written}"


def _shorter(old: Any, new: Any) -> tuple[ChangeKind, str] | None:
    if new.max_length is None or new.get_internal_type() == "TextField":
        return None
    was = None if old.get_internal_type() == "TextField" else old.max_length
    if was is not None and was <= new.max_length:
        return None
    before = "unlimited" if was is None else was
    return ChangeKind.COLUMN_NARROWED, f"from {before} to {new.max_length} characters"


def _smaller(old: str, new: str) -> tuple[ChangeKind, str] | None:
    if _INTEGERS[new] < _INTEGERS[old]:
        detail = f"from {_INTEGERS[old]} to {_INTEGERS[new]} bytes"
        return ChangeKind.COLUMN_NARROWED, detail
    if new.startswith("Positive") and not old.startswith("Positive") and "Auto" not in old:
        return ChangeKind.COLUMN_NARROWED, "to non-negative numbers"
    return None


def _less_precise(old: Any, new: Any) -> tuple[ChangeKind, str] | None:
    if None in (old.max_digits, new.max_digits):
        return None
    digits = (old.max_digits - old.decimal_places, new.max_digits - new.decimal_places)
    if new.decimal_places < old.decimal_places:
        detail = f"from {old.decimal_places} to {new.decimal_places} decimal places"
        return ChangeKind.COLUMN_NARROWED, detail
    if digits[1] < digits[0]:
        detail = f"from {digits[0]} to {digits[1]} digits before the decimal point"
        return ChangeKind.COLUMN_NARROWED, detail
    return None


def _db_type_of(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> str | None:
    """Return the type as the database writes it; None where the field cannot provide it."""
    try:
        return field.db_type(connection)
    except Exception:  # a custom field, detached from its model
        logger.info("Cannot determine the type of %r", field, exc_info=True)
        return None


def model_name_of(operation: Operation) -> str | None:
    """Return the name of the model that an operation changes, or None."""
    for attribute in ("model_name", "new_name", "name"):
        if attribute == "new_name" and not isinstance(operation, RenameModel):
            continue
        if isinstance(name := getattr(operation, attribute, None), str):
            return name
    return None


def tables_of(
    operation: Operation, app: str, before: ProjectState, after: ProjectState
) -> Iterator[str]:
    if isinstance(operation, AlterModelOptions | AlterModelManagers):
        return
    old, new = _models(operation, app, before, after)
    if old is not None and new is not None and _has_table(old):
        yield table_of(old)


def changes_of(
    operation: Operation,
    app: str,
    before: ProjectState,
    after: ProjectState,
    connection: BaseDatabaseWrapper,
) -> Iterator[SchemaChange]:
    old, new = _models(operation, app, before, after)
    old = old if old is not None and _has_table(old) else None
    new = new if new is not None and _has_table(new) else None
    if old is None or new is None:
        for model, kind in ((old, ChangeKind.TABLE_DROPPED), (new, ChangeKind.TABLE_ADDED)):
            if model is not None:
                yield SchemaChange(kind=kind, table=table_of(model))
                for name, field in model.fields.items():
                    if through := _own_table(model, name, field):
                        yield SchemaChange(kind=kind, table=through)
        return
    if table_of(old) != table_of(new):
        yield SchemaChange(
            kind=ChangeKind.TABLE_RENAMED, table=table_of(old), name=table_of(new)
        )
    yield from _fields(operation, old, new, connection)
    yield from _constraints(operation, old, new)


def table_of(model: ModelState) -> str:
    return str(model.options.get("db_table") or f"{model.app_label}_{model.name_lower}")


def _models(
    operation: Operation, app: str, before: ProjectState, after: ProjectState
) -> tuple[ModelState | None, ModelState | None]:
    """Return the model that an operation changes, before and after it."""
    if isinstance(operation, RenameModel):
        names = (operation.old_name.lower(), operation.new_name.lower())
        first = names if (app, names[0]) in before.models else names[::-1]
        return before.models.get((app, first[0])), after.models.get((app, first[1]))
    name = model_name_of(operation)
    if name is None:
        return None, None
    key = (app, name.lower())
    return before.models.get(key), after.models.get(key)


def _has_table(model: ModelState) -> bool:
    options = model.options
    return bool(options.get("managed", True)) and not options.get("proxy")


def _own_table(model: ModelState, name: str, field: Any) -> str:
    """Return the table that belongs to a field alone: that of a many-to-many relation."""
    if not field.many_to_many or field.remote_field.through is not None:
        return ""
    return str(field.db_table or f"{table_of(model)}_{name}")


def _fields(
    operation: Operation, old: ModelState, new: ModelState, connection: BaseDatabaseWrapper
) -> Iterator[SchemaChange]:
    table = table_of(new)
    renamed: dict[str, str] = {}
    if isinstance(operation, RenameField):
        there = operation.old_name in old.fields
        pair = (operation.old_name, operation.new_name)
        renamed = dict([pair if there else pair[::-1]])
    for name, field in old.fields.items():
        later = renamed.get(name, name)
        if later in new.fields:
            other = new.fields[later]
            yield from _altered(table, (name, field), (later, other), connection)
        elif through := _own_table(old, name, field):
            yield SchemaChange(kind=ChangeKind.TABLE_DROPPED, table=through)
        elif column := column_of(name, field):
            yield SchemaChange(
                kind=ChangeKind.COLUMN_DROPPED, table=table, columns=(column,)
            )
    for name, field in new.fields.items():
        if name not in old.fields and name not in renamed.values():
            yield from _added(table, new, name, field)


def _added(
    table: str, model: ModelState, name: str, field: Field[Any, Any]
) -> Iterator[SchemaChange]:
    if through := _own_table(model, name, field):
        yield SchemaChange(kind=ChangeKind.TABLE_ADDED, table=through)
    if not (column := column_of(name, field)):
        return
    yield SchemaChange(
        kind=ChangeKind.COLUMN_ADDED,
        table=table,
        columns=(column,),
        is_nullable=field.null,
        needs_value=needs_value(field),
    )
    if field.unique and not field.primary_key:
        yield SchemaChange(kind=ChangeKind.UNIQUE_ADDED, table=table, columns=(column,))


def _altered(
    table: str,
    before: tuple[str, Field[Any, Any]],
    after: tuple[str, Field[Any, Any]],
    connection: BaseDatabaseWrapper,
) -> Iterator[SchemaChange]:
    old, new = before[1], after[1]
    was, column = column_of(*before), column_of(*after)
    if was != column and was and column:
        yield SchemaChange(
            kind=ChangeKind.COLUMN_RENAMED, table=table, columns=(was,), name=column
        )
    if old is new or not was or not column:
        return
    about: dict[str, Any] = {"table": table, "columns": (column,)}
    if found := compare_types(old, new, connection):
        yield SchemaChange(kind=found[0], detail=found[1], **about)
    if changes_reference(old, new):
        yield SchemaChange(kind=ChangeKind.REFERENCE_ADDED, **about)
    if old.null and not new.null and not new.primary_key:
        yield SchemaChange(
            kind=ChangeKind.NULL_FORBIDDEN,
            needs_value=needs_value(new),
            is_filled=fills_nulls(new),
            **about,
        )
    if new.unique and not old.unique and not new.primary_key:
        yield SchemaChange(kind=ChangeKind.UNIQUE_ADDED, **about)


def _constraints(
    operation: Operation, old: ModelState, new: ModelState
) -> Iterator[SchemaChange]:
    table = table_of(new)
    before, after = _unique_sets(old), _unique_sets(new)
    for names, where in before.keys() - after.keys():
        columns = _columns(old, sorted(names))
        kind = ChangeKind.UNIQUE_DROPPED
        yield SchemaChange(kind=kind, table=table, columns=columns, detail=where)
    altered = {name for name, field in new.fields.items() if field.unique}
    for (names, where), name in after.items():
        if (names, where) in before or names <= altered:  # `_altered` covers a field
            continue
        columns = _columns(new, [each for each in new.fields if each in names])
        kind = ChangeKind.UNIQUE_ADDED
        yield SchemaChange(kind=kind, table=table, columns=columns, name=name, detail=where)
    known = {constraint.name for constraint in old.options.get("constraints", ())}
    for constraint in new.options.get("constraints", ()):
        if constraint.name in known or _leaves_rows_alone(operation):
            continue
        if not isinstance(constraint, UniqueConstraint):
            columns = _columns(new, _names_in(constraint, new))
            kind, name = ChangeKind.CHECK_ADDED, constraint.name
            yield SchemaChange(kind=kind, table=table, columns=columns, name=name)
        elif constraint.expressions:
            kind, name = ChangeKind.UNIQUE_ADDED, constraint.name
            yield SchemaChange(kind=kind, table=table, name=name)


def _leaves_rows_alone(operation: Operation) -> bool:
    """Return whether a constraint is added without checking existing rows. Compared by
    name, because `django.contrib.postgres` needs its driver."""
    names = {kind.__name__ for kind in type(operation).__mro__}
    return "AddConstraintNotValid" in names


def _unique_sets(model: ModelState) -> dict[tuple[frozenset[str], str], str]:
    """Return the sets of fields that are unique together, each with its condition ("" for
    all rows) and the name of its constraint."""
    found = {
        (frozenset(names), ""): "" for names in model.options.get("unique_together") or ()
    }
    found |= {(frozenset([n]), ""): "" for n, field in model.fields.items() if field.unique}
    for constraint in model.options.get("constraints", ()):
        if isinstance(constraint, UniqueConstraint) and not constraint.expressions:
            where = "" if constraint.condition is None else f"where {constraint.condition}"
            found[frozenset(constraint.fields), where] = constraint.name
    return found


def _columns(model: ModelState, names: Any) -> tuple[str, ...]:
    return tuple(
        column_of(name, model.fields[name]) if name in model.fields else name
        for name in names
    )


def _names_in(constraint: Any, model: ModelState) -> tuple[str, ...]:
    """Return the fields that a check constraint names directly."""
    if not isinstance(constraint, CheckConstraint):
        return ()
    condition: Any = getattr(constraint, "condition", None)
    if not hasattr(condition, "flatten"):
        return ()
    found: dict[str, None] = {}
    nodes: Iterable[Any] = condition.flatten()
    for node in nodes:
        if isinstance(node, F):
            found[str(vars(node)["name"]).partition("__")[0]] = None
        for child in getattr(node, "children", ()):
            if isinstance(child, tuple):
                found[child[0].partition("__")[0]] = None
    return tuple(name for name in found if name in model.fields)
