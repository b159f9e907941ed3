"""Does a column hold less than before, or something else?

Read from fields as they stand in a state of the project, where they know neither their
model nor their name.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import NOT_PROVIDED, Field, ForeignKey

from migration_route.planning.changes.values import ChangeKind

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
    """Tell whether an INSERT that does not name the column fails: Django takes its own
    default out of the database again (Django's reference, "Field.db_default")."""
    if field.null or field.primary_key or getattr(field, "generated", False):
        return False
    return field.db_default is NOT_PROVIDED


def fills(field: Field[Any, Any]) -> bool:
    """Tell whether AlterField gives a value to the rows that are without one."""
    return bool(field.has_default() or (field.blank and field.empty_strings_allowed))


def refers_anew(old: Field[Any, Any], new: Field[Any, Any]) -> bool:
    """Tell whether the values of a column must now be found in another table."""
    if not _is_held(new):
        return False
    return not _is_held(old) or _target(old) != _target(new)


def _is_held(field: Any) -> bool:
    """Tell whether the database holds a field's values against another table."""
    return bool(field.many_to_one or field.one_to_one) and bool(field.db_constraint)


def _target(field: Any) -> str:
    model = field.remote_field.model
    label = model if isinstance(model, str) else model._meta.label
    return label.lower()


def compared_types(
    old: Field[Any, Any], new: Field[Any, Any], connection: BaseDatabaseWrapper
) -> tuple[ChangeKind, str] | None:
    """Return how the new type is less than the old one, or another; None where every
    value fits as before."""
    if isinstance(old, ForeignKey) or isinstance(new, ForeignKey):
        return _from_a_reference(new, connection)
    types = (old.get_internal_type(), new.get_internal_type())
    if types in _HARMLESS:
        return None
    if types[0] in _TEXTS and types[1] in _TEXTS:
        return _shorter(old, new)
    if types[0] in _INTEGERS and types[1] in _INTEGERS:
        return _smaller(*types)
    if types == ("DecimalField", "DecimalField"):
        return _less_precise(old, new)
    written = (_written(old, connection), _written(new, connection))
    if None in written or written[0] == written[1]:
        return None
    return ChangeKind.COLUMN_RETYPED, f"from {written[0]} to {written[1]}"


def _from_a_reference(
    new: Field[Any, Any], connection: BaseDatabaseWrapper
) -> tuple[ChangeKind, str] | None:
    """What a reference holds depends on where it points to: most are numbers."""
    kind = new.get_internal_type()
    if isinstance(new, ForeignKey) or kind in _INTEGERS or kind == "UUIDField":
        return None
    written = _written(new, connection)
    return ChangeKind.COLUMN_RETYPED, f"from that of a foreign key to {written}"


def _shorter(old: Any, new: Any) -> tuple[ChangeKind, str] | None:
    if new.max_length is None or new.get_internal_type() == "TextField":
        return None
    was = None if old.get_internal_type() == "TextField" else old.max_length
    if was is not None and was <= new.max_length:
        return None
    before = "any number of" if was is None else was
    return ChangeKind.COLUMN_NARROWED, f"from {before} to {new.max_length} characters"


def _smaller(old: str, new: str) -> tuple[ChangeKind, str] | None:
    if _INTEGERS[new] < _INTEGERS[old]:
        detail = f"from {_INTEGERS[old]} to {_INTEGERS[new]} bytes"
        return ChangeKind.COLUMN_NARROWED, detail
    if new.startswith("Positive") and not old.startswith("Positive") and "Auto" not in old:
        return ChangeKind.COLUMN_NARROWED, "to numbers that are not negative"
    return None


def _less_precise(old: Any, new: Any) -> tuple[ChangeKind, str] | None:
    if None in (old.max_digits, new.max_digits):
        return None
    digits = (old.max_digits - old.decimal_places, new.max_digits - new.decimal_places)
    if new.decimal_places < old.decimal_places:
        detail = f"from {old.decimal_places} to {new.decimal_places} decimal places"
        return ChangeKind.COLUMN_NARROWED, detail
    if digits[1] < digits[0]:
        detail = f"from {digits[0]} to {digits[1]} digits before the point"
        return ChangeKind.COLUMN_NARROWED, detail
    return None


def _written(field: Field[Any, Any], connection: BaseDatabaseWrapper) -> str | None:
    """Return the type as the database writes it; None where the field cannot tell."""
    try:
        return field.db_type(connection)
    except Exception:  # a field of somebody else's, away from its model
        logger.info("The type of %r is not known", field, exc_info=True)
        return None
