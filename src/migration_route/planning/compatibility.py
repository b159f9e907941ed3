"""Decides whether the running release works after an operation, and the new release before
it.

The rules are those of the guides to zero-downtime deploys: additions come before the new
code, removals and restrictions after the old code, and a rename is safe on neither side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from django.db.migrations import operations as kinds
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Field
from django.db.models.fields import NOT_PROVIDED

from migration_route.core.enums import Phase
from migration_route.planning.states import advance

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
    becomes_another: str = ""  # another name or type: only one release works


def compare(old: AnyField, new: AnyField) -> Alteration:
    """Compare a field before and after `AlterField`, by what reaches the database."""
    if old.many_to_many or new.many_to_many:
        return Alteration()
    if old.db_column != new.db_column or bool(old.remote_field) != bool(new.remote_field):
        return Alteration(becomes_another="maps to another column")
    room = _room(old, new)
    if room is None:
        return Alteration(becomes_another="becomes another type of column")
    shrinks, grows = room
    tightens = ["becomes narrower"] if shrinks else []
    loosens = ["becomes wider"] if grows else []
    for tight, loose, is_restricted in _RESTRICTIONS:
        was, is_now = is_restricted(old), is_restricted(new)
        tightens += [tight] if is_now and not was else []
        loosens += [loose] if was and not is_now else []
    return Alteration(tightens=", ".join(tightens), loosens=", ".join(loosens))


def _constrains(column: AnyField) -> bool:
    return bool(column.remote_field) and bool(getattr(column, "db_constraint", True))


def _has_default(column: AnyField) -> bool:
    return getattr(column, "db_default", NOT_PROVIDED) is not NOT_PROVIDED


# What a field gets when a restriction is added and when it is lifted.
_RESTRICTIONS: tuple[tuple[str, str, Callable[[AnyField], bool]], ...] = (
    ("becomes NOT NULL", "allows NULL", lambda column: not column.null),
    ("becomes unique", "is no longer unique", lambda column: column.unique),
    ("gets a foreign key", "loses its foreign key", _constrains),
    (
        "loses its default in the database",
        "gets a default in the database",
        lambda column: not _has_default(column),
    ),
)


def _room(old: AnyField, new: AnyField) -> tuple[bool, bool] | None:
    """Return whether a column becomes narrower, and whether it becomes wider; None where it
    becomes another type."""
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
    """Return the label of the model that a relation references."""
    target = getattr(column.remote_field, "model", "")
    label = target if isinstance(target, str) else target._meta.label
    return label.lower()


ModelKey = tuple[str, str]
BEFORE, AFTER, ANY = Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY, Phase.ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """The side on which one operation belongs when it goes forwards.

    In the texts, <old> and <new> stand for the releases before and after it.
    """

    phase: Phase
    why: str
    unsafe: str = ""  # why neither side is safe
    flips: bool = True  # reversed, it belongs on the other side

    def backwards(self) -> Classification:
        """Return the side when the operation is reversed: the releases are swapped."""
        sides = {BEFORE: AFTER, AFTER: BEFORE, ANY: ANY}
        return replace(self, phase=sides[self.phase] if self.flips else self.phase)


@dataclass(slots=True)
class NewObjects:
    """What the plan itself creates, so that no running release uses it."""

    models: set[ModelKey] = field(default_factory=set)
    fields: set[tuple[str, str, str]] = field(default_factory=set)


_WITHOUT_EFFECT = (
    kinds.AddIndex,
    kinds.RemoveIndex,
    kinds.RenameIndex,
    kinds.AlterIndexTogether,
    kinds.AlterModelManagers,
    kinds.AlterModelOptions,
    kinds.AlterModelTableComment,
)
_NOTHING = Classification(phase=ANY, why="Neither release depends on it.")
_UNKNOWN = Classification(
    phase=ANY, why="It runs code, which is assumed to suit both releases."
)
_INVISIBLE = Classification(phase=ANY, why="It changes nothing in the database.")
# django.contrib.postgres cannot be imported without its driver.
_BY_NAME = {
    "CreateExtension": Classification(phase=BEFORE, why="<new> may need the extension."),
    "CreateCollation": Classification(phase=BEFORE, why="<new> may need the collation."),
    "RemoveCollation": Classification(phase=AFTER, why="<old> may need the collation."),
    "ValidateConstraint": _NOTHING,
}


def classify_operation(
    operation: Operation, app: str, state: ProjectState, novel: NewObjects
) -> Classification:
    """Classify one operation in the project state right before it; what it creates is added
    to `novel`."""
    match operation:
        case kinds.SeparateDatabaseAndState():
            return _separate(operation, app, state, novel)
        case kinds.RunSQL() if operation.state_operations:
            return _worst(operation.state_operations, app, state, novel)
        case kinds.RunPython() | kinds.RunSQL():
            return _UNKNOWN
        case kinds.CreateModel():
            return _create(operation, app, novel)
    if isinstance(operation, _WITHOUT_EFFECT):
        return _NOTHING
    for kind in type(operation).__mro__:
        if kind.__name__ in _BY_NAME:
            return _BY_NAME[kind.__name__]
    model = _model_of(operation, app, state)
    return _UNKNOWN if model is None else _of_model(operation, model, novel)


def _model_of(operation: Operation, app: str, state: ProjectState) -> ModelState | None:
    name = getattr(operation, "model_name", None) or getattr(operation, "name", None)
    if isinstance(operation, kinds.RenameModel):
        name = operation.old_name
    return state.models.get((app, name.lower())) if isinstance(name, str) else None


def _create(operation: kinds.CreateModel, app: str, novel: NewObjects) -> Classification:
    if operation.options.get("proxy") or not operation.options.get("managed", True):
        return _INVISIBLE
    novel.models.add((app, operation.name_lower))
    return Classification(
        phase=BEFORE,
        why=f"<new> uses the new table of {app}.{operation.name}.",
    )


def _of_model(operation: Operation, model: ModelState, novel: NewObjects) -> Classification:
    key = (model.app_label, model.name_lower)
    if model.options.get("proxy") or not model.options.get("managed", True):
        return _INVISIBLE
    if isinstance(operation, kinds.RenameModel):
        return _renames_model(operation, model, novel)
    if key in novel.models:
        gone = (kinds.DeleteModel, kinds.RemoveField, kinds.RemoveConstraint)
        why = f"The table of {_named(model)} is created in this plan and not used yet."
        return Classification(phase=ANY if isinstance(operation, gone) else BEFORE, why=why)
    match operation:
        case kinds.DeleteModel():
            return Classification(
                phase=AFTER, why=f"<old> uses the table of {_named(model)}."
            )
        case kinds.AddField():
            novel.fields.add((*key, operation.name_lower))
            return _adds(operation.name, operation.field, model)
        case kinds.RemoveField():
            return _removes(operation, model, novel)
        case kinds.RenameField():
            return _renames_field(operation, model, novel)
        case kinds.AlterField():
            return _alters(operation, model)
        case _:
            return _of_options(operation, model)


def _renames_model(
    operation: kinds.RenameModel, model: ModelState, novel: NewObjects
) -> Classification:
    is_new = (model.app_label, model.name_lower) in novel.models
    if is_new:
        novel.models.add((model.app_label, operation.new_name_lower))
    if is_new or model.options.get("db_table"):
        return _NOTHING
    return _renames(f"The table of {_named(model)}")


def _of_options(operation: Operation, model: ModelState) -> Classification:
    match operation:
        case kinds.AlterModelTable():
            if operation.table == model.options.get("db_table"):
                return _NOTHING
            return _renames(f"The table of {_named(model)}")
        case kinds.AlterUniqueTogether():
            before = set(map(tuple, model.options.get("unique_together") or ()))
            after = set(map(tuple, operation.option_value or ()))
            return _judged(
                breaks="new unique_together" if after - before else "",
                needs="unique_together removed" if before - after else "",
                model=model,
            )
        case kinds.AddConstraint():
            return _judged(breaks=f"constraint {operation.constraint.name}", model=model)
        case kinds.RemoveConstraint():
            return _judged(needs=f"constraint {operation.name} removed", model=model)
        case kinds.AlterOrderWithRespectTo() if operation.order_with_respect_to:
            return _adds("_order", None, model)
        case kinds.AlterOrderWithRespectTo():
            return Classification(
                phase=AFTER, why=f"<old> orders {_named(model)} by _order."
            )
    return _NOTHING


def _adds(name: str, added: AnyField | None, model: ModelState) -> Classification:
    column = f"{_named(model)}.{name}"
    why = f"<new> uses {column}, which it adds."
    if added is not None and may_be_left_out(added):
        return Classification(phase=BEFORE, why=why)
    return Classification(
        phase=BEFORE,
        why=why,
        unsafe=f"<old> does not fill {column}, which is NOT NULL without a default in the "
        "database: its inserts fail.",
    )


def _removes(
    operation: kinds.RemoveField, model: ModelState, novel: NewObjects
) -> Classification:
    key = (model.app_label, model.name_lower, operation.name_lower)
    column = f"{_named(model)}.{operation.name}"
    if key in novel.fields:
        return Classification(phase=ANY, why=f"{column} is also added in this plan.")
    removed = model.fields.get(operation.name)
    why = f"<old> reads and writes {column}."
    if removed is None or may_be_left_out(removed):
        return Classification(phase=AFTER, why=why)
    return Classification(
        phase=AFTER,
        why=why,
        unsafe=f"<new> does not fill {column}, which is NOT NULL without a default in the "
        "database: until it is removed, its inserts fail.",
    )


def may_be_left_out(column: AnyField) -> bool:
    """Return whether code that does not know this field can insert a row."""
    return bool(
        column.null
        or column.many_to_many
        or getattr(column, "generated", False)
        or _has_default(column)
    )


def _renames_field(
    operation: kinds.RenameField, model: ModelState, novel: NewObjects
) -> Classification:
    place = (model.app_label, model.name_lower)
    if (*place, operation.old_name_lower) in novel.fields:
        novel.fields.add((*place, operation.new_name_lower))
        return _NOTHING
    renamed = model.fields.get(operation.old_name)
    if renamed is not None and renamed.db_column and not renamed.many_to_many:
        return _INVISIBLE  # the column keeps its name
    return _renames(f"The column of {_named(model)}.{operation.old_name}")


def _renames(what: str) -> Classification:
    return Classification(
        phase=BEFORE,
        why=f"{what} is renamed, and <new> uses the new name.",
        unsafe=f"{what} is renamed: <old> works only with the old name, <new> only with "
        "the new one.",
        flips=False,
    )


def _alters(operation: kinds.AlterField, model: ModelState) -> Classification:
    old = model.fields.get(operation.name)
    if old is None:
        return _UNKNOWN
    column = f"{_named(model)}.{operation.name}"
    found = compare(old, operation.field)
    if found.becomes_another:
        return Classification(
            phase=BEFORE,
            why=f"{column} {found.becomes_another}, as <new> expects.",
            unsafe=f"{column} {found.becomes_another}: only one release works with it.",
            flips=False,
        )
    return _judged(
        breaks=f"{column} {found.tightens}" if found.tightens else "",
        needs=f"{column} {found.loosens}" if found.loosens else "",
        model=model,
    )


def _judged(*, model: ModelState, breaks: str = "", needs: str = "") -> Classification:
    """Classify a change by what it forbids, which breaks <old>, and what it allows, which
    <new> needs."""
    tight = f"It restricts {_named(model)} ({breaks}): <old> may write what it forbids."
    loose = f"It relaxes {_named(model)} ({needs}): <new> may write what it allows."
    if breaks and needs:
        return Classification(
            phase=BEFORE, why=loose, unsafe=f"{tight} {loose}", flips=False
        )
    if breaks:
        return Classification(phase=AFTER, why=tight)
    return Classification(phase=BEFORE, why=loose) if needs else _NOTHING


def _separate(
    operation: kinds.SeparateDatabaseAndState,
    app: str,
    state: ProjectState,
    novel: NewObjects,
) -> Classification:
    """Classify by the database operations; by the state operations where the former are
    code."""
    parts = operation.database_operations
    if not parts:
        return _INVISIBLE
    is_code = all(isinstance(part, kinds.RunSQL | kinds.RunPython) for part in parts)
    words = operation.state_operations if is_code and operation.state_operations else parts
    return _worst(words, app, state, novel)


def _worst(
    parts: Sequence[Operation], app: str, state: ProjectState, novel: NewObjects
) -> Classification:
    scratch = state.clone()
    found: list[Classification] = []
    for part in parts:
        found.append(classify_operation(part, app, scratch, novel))
        advance(part, app, scratch)
    sides = {judgement.phase for judgement in found} - {ANY}
    first = next((one for one in found if one.phase in sides), found[0])
    if len(sides) < 2:
        return first
    both = " ".join(one.why for one in found if one.phase in sides)
    return Classification(phase=BEFORE, why=first.why, unsafe=both, flips=False)


def _named(model: ModelState) -> str:
    return f"{model.app_label}.{model.name}"
