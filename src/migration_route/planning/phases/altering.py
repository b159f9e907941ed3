"""What does a changed field take away from the old release, or give to the new one?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from django.db.models import Field
from django.db.models.fields import NOT_PROVIDED

AnyField: TypeAlias = "Field[Any, Any]"

# The ranges of Django's integer fields: django/db/backends/base/operations.py.
_RANGES = {
    "SmallIntegerField": (-(2**15), 2**15 - 1),
    "IntegerField": (-(2**31), 2**31 - 1),
    "BigIntegerField": (-(2**63), 2**63 - 1),
    "PositiveSmallIntegerField": (0, 2**15 - 1),
    "PositiveIntegerField": (0, 2**31 - 1),
    "PositiveBigIntegerField": (0, 2**63 - 1),
    "SmallAutoField": (-(2**15), 2**15 - 1),
    "AutoField": (-(2**31), 2**31 - 1),
    "BigAutoField": (-(2**63), 2**63 - 1),
}
_TEXTS = frozenset(
    {"CharField", "SlugField", "FileField", "FilePathField", "TextField", "URLField"}
)
_NO_LIMIT = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Alteration:
    """How a field of the new release differs; "" where it does not."""

    tightens: str = ""  # forbids what was allowed
    loosens: str = ""  # allows what was forbidden
    becomes_another: str = ""  # another name or kind: only one release fits


def compare(old: AnyField, new: AnyField) -> Alteration:
    """Compare a field before and after `AlterField`, by what reaches the database."""
    if old.many_to_many or new.many_to_many:
        return Alteration()
    if old.db_column != new.db_column or bool(old.remote_field) != bool(new.remote_field):
        return Alteration(becomes_another="gets another column")
    tightens: list[str] = []
    loosens: list[str] = []
    room = _room(old, new)
    if room is None:
        return Alteration(becomes_another="becomes another kind of column")
    shrinks, grows = room
    _weigh(tightens, loosens, "holds less", "holds more", is_tight=shrinks, is_loose=grows)
    for word_tight, word_loose, was, is_now in (
        ("takes no NULL", "takes NULL", not old.null, not new.null),
        ("becomes unique", "need not be unique", old.unique, new.unique),
        (
            "gets a foreign key",
            "loses its foreign key",
            _constrains(old),
            _constrains(new),
        ),
        (
            "loses its default in the database",
            "gets a default in the database",
            not _has_default(old),
            not _has_default(new),
        ),
    ):
        _weigh(
            tightens,
            loosens,
            word_tight,
            word_loose,
            is_tight=is_now and not was,
            is_loose=was and not is_now,
        )
    return Alteration(tightens=", ".join(tightens), loosens=", ".join(loosens))


def _weigh(
    tightens: list[str],
    loosens: list[str],
    tight: str,
    loose: str,
    *,
    is_tight: bool,
    is_loose: bool,
) -> None:
    if is_tight:
        tightens.append(tight)
    if is_loose:
        loosens.append(loose)


def _constrains(column: AnyField) -> bool:
    return bool(column.remote_field) and bool(getattr(column, "db_constraint", True))


def _has_default(column: AnyField) -> bool:
    return getattr(column, "db_default", NOT_PROVIDED) is not NOT_PROVIDED


def _room(old: AnyField, new: AnyField) -> tuple[bool, bool] | None:
    """Tell whether a column holds less, and whether it holds more; None where it is of
    another kind."""
    before, after = old.get_internal_type(), new.get_internal_type()
    if before in _RANGES and after in _RANGES:
        (low, high), (new_low, new_high) = _RANGES[before], _RANGES[after]
        return (
            new_low > low or new_high < high,
            new_low < low or new_high > high,
        )
    if before in _TEXTS and after in _TEXTS:
        return _less_more(_longest(old), _longest(new))
    if before != after:
        return None
    if before == "DecimalField":
        places = _less_more(_number(old, "decimal_places"), _number(new, "decimal_places"))
        whole = _less_more(_whole_digits(old), _whole_digits(new))
        return places[0] or whole[0], places[1] or whole[1]
    if old.remote_field and new.remote_field:
        return (False, False) if _points(old) == _points(new) else None
    return _less_more(_longest(old), _longest(new))


def _less_more(old: int, new: int) -> tuple[bool, bool]:
    return new < old, new > old


def _longest(column: AnyField) -> int:
    return column.max_length or _NO_LIMIT


def _number(column: AnyField, name: str) -> int:
    return getattr(column, name, None) or 0


def _whole_digits(column: AnyField) -> int:
    return _number(column, "max_digits") - _number(column, "decimal_places")


def _points(column: AnyField) -> str:
    """Name where a relation leads: a class, or "app.model" in any case."""
    target = getattr(column.remote_field, "model", "")
    label = target if isinstance(target, str) else target._meta.label
    return label.lower()
