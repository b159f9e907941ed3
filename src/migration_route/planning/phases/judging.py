"""Would the running release still work after this operation, and the new one before it?

The rules are those of the manuals of zero-downtime deploys: what is added comes before the
new code, what is removed or tightened goes after the old code, a rename suits neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from django.db.migrations import operations as kinds
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import Field
from django.db.models.fields import NOT_PROVIDED

from migration_route.planning.phases.altering import compare
from migration_route.vocabulary import Phase

ModelKey = tuple[str, str]
BEFORE, AFTER, ANY = Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY, Phase.ANY


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Where one operation belongs when it goes forwards.

    In the texts, <old> and <new> stand for the releases before and after it.
    """

    phase: Phase
    why: str
    unsafe: str = ""  # why neither side is safe
    flips: bool = True  # undone, it belongs on the other side

    def backwards(self) -> Judgement:
        """Return where it belongs when it is undone: the releases change places."""
        sides = {BEFORE: AFTER, AFTER: BEFORE, ANY: ANY}
        return replace(self, phase=sides[self.phase] if self.flips else self.phase)


@dataclass(slots=True)
class Novelties:
    """What comes into being in the plan itself, so that no running release knows it."""

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
_NOTHING = Judgement(phase=ANY, why="Neither release depends on it.")
_UNKNOWN = Judgement(phase=ANY, why="It runs code, which is taken to suit both releases.")
_INVISIBLE = Judgement(phase=ANY, why="It changes nothing in the database.")
# django.contrib.postgres cannot be imported without its driver.
_BY_NAME = {
    "CreateExtension": Judgement(phase=BEFORE, why="<new> may need the extension."),
    "CreateCollation": Judgement(phase=BEFORE, why="<new> may need the collation."),
    "RemoveCollation": Judgement(phase=AFTER, why="<old> may need the collation."),
    "ValidateConstraint": _NOTHING,
}


def judge(
    operation: Operation, app: str, state: ProjectState, novel: Novelties
) -> Judgement:
    """Judge one operation, in the state of the project right before it; what it brings
    into being is added to `novel`."""
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


def _create(operation: kinds.CreateModel, app: str, novel: Novelties) -> Judgement:
    if operation.options.get("proxy") or not operation.options.get("managed", True):
        return _INVISIBLE
    novel.models.add((app, operation.name_lower))
    return Judgement(
        phase=BEFORE, why=f"<new> uses the table of {app}.{operation.name}, which it makes."
    )


def _of_model(operation: Operation, model: ModelState, novel: Novelties) -> Judgement:
    key = (model.app_label, model.name_lower)
    if model.options.get("proxy") or not model.options.get("managed", True):
        return _INVISIBLE
    if isinstance(operation, kinds.RenameModel):
        return _renames_model(operation, model, novel)
    if key in novel.models:
        gone = (kinds.DeleteModel, kinds.RemoveField, kinds.RemoveConstraint)
        why = f"The table of {_named(model)} is made in this plan: nobody uses it yet."
        return Judgement(phase=ANY if isinstance(operation, gone) else BEFORE, why=why)
    match operation:
        case kinds.DeleteModel():
            return Judgement(phase=AFTER, why=f"<old> uses the table of {_named(model)}.")
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
    operation: kinds.RenameModel, model: ModelState, novel: Novelties
) -> Judgement:
    is_new = (model.app_label, model.name_lower) in novel.models
    if is_new:
        novel.models.add((model.app_label, operation.new_name_lower))
    if is_new or model.options.get("db_table"):
        return _NOTHING
    return _renames(f"The table of {_named(model)}")


def _of_options(operation: Operation, model: ModelState) -> Judgement:
    match operation:
        case kinds.AlterModelTable():
            if operation.table == model.options.get("db_table"):
                return _NOTHING
            return _renames(f"The table of {_named(model)}")
        case kinds.AlterUniqueTogether():
            before = set(map(tuple, model.options.get("unique_together") or ()))
            after = set(map(tuple, operation.option_value or ()))
            return _judged(
                breaks="a unique_together" if after - before else "",
                needs="a unique_together goes" if before - after else "",
                model=model,
            )
        case kinds.AddConstraint():
            return _judged(breaks=f"constraint {operation.constraint.name}", model=model)
        case kinds.RemoveConstraint():
            return _judged(needs=f"constraint {operation.name} goes", model=model)
        case kinds.AlterOrderWithRespectTo() if operation.order_with_respect_to:
            return _adds("_order", None, model)
        case kinds.AlterOrderWithRespectTo():
            return Judgement(phase=AFTER, why=f"<old> orders {_named(model)} by _order.")
    return _NOTHING


def _adds(name: str, added: Field | None, model: ModelState) -> Judgement:  # type: ignore[type-arg]
    column = f"{_named(model)}.{name}"
    why = f"<new> uses {column}, which it adds."
    if added is not None and may_be_left_out(added):
        return Judgement(phase=BEFORE, why=why)
    return Judgement(
        phase=BEFORE,
        why=why,
        unsafe=f"<old> does not fill {column}, which has no default in the database and "
        "takes no NULL: its inserts fail.",
    )


def _removes(
    operation: kinds.RemoveField, model: ModelState, novel: Novelties
) -> Judgement:
    key = (model.app_label, model.name_lower, operation.name_lower)
    column = f"{_named(model)}.{operation.name}"
    if key in novel.fields:
        return Judgement(phase=ANY, why=f"{column} is added in this plan as well.")
    removed = model.fields.get(operation.name)
    why = f"<old> reads and writes {column}."
    if removed is None or may_be_left_out(removed):
        return Judgement(phase=AFTER, why=why)
    return Judgement(
        phase=AFTER,
        why=why,
        unsafe=f"<new> does not fill {column}, which has no default in the database and "
        "takes no NULL: until it is gone, its inserts fail.",
    )


def may_be_left_out(column: Field) -> bool:  # type: ignore[type-arg]
    """Tell whether a row can be inserted by code that does not know this field."""
    return bool(
        column.null
        or column.many_to_many
        or getattr(column, "generated", False)
        or getattr(column, "db_default", NOT_PROVIDED) is not NOT_PROVIDED
    )


def _renames_field(
    operation: kinds.RenameField, model: ModelState, novel: Novelties
) -> Judgement:
    place = (model.app_label, model.name_lower)
    if (*place, operation.old_name_lower) in novel.fields:
        novel.fields.add((*place, operation.new_name_lower))
        return _NOTHING
    renamed = model.fields.get(operation.old_name)
    if renamed is not None and renamed.db_column and not renamed.many_to_many:
        return _INVISIBLE  # the column keeps its name
    return _renames(f"The column of {_named(model)}.{operation.old_name}")


def _renames(what: str) -> Judgement:
    return Judgement(
        phase=BEFORE,
        why=f"{what} gets another name, which <new> uses.",
        unsafe=f"{what} gets another name: <old> knows only the one, <new> only the other.",
        flips=False,
    )


def _alters(operation: kinds.AlterField, model: ModelState) -> Judgement:
    old = model.fields.get(operation.name)
    if old is None:
        return _UNKNOWN
    column = f"{_named(model)}.{operation.name}"
    found = compare(old, operation.field)
    if found.becomes_another:
        return Judgement(
            phase=BEFORE,
            why=f"{column} {found.becomes_another}, as <new> expects.",
            unsafe=f"{column} {found.becomes_another}: only one of the two releases fits.",
            flips=False,
        )
    return _judged(
        breaks=f"{column} {found.tightens}" if found.tightens else "",
        needs=f"{column} {found.loosens}" if found.loosens else "",
        model=model,
    )


def _judged(*, model: ModelState, breaks: str = "", needs: str = "") -> Judgement:
    """Judge by what a change forbids, which breaks <old>, and allows, which <new> needs."""
    tight = f"It tightens {_named(model)} ({breaks}): <old> may write what it forbids."
    loose = f"It loosens {_named(model)} ({needs}): <new> may write what it allows."
    if breaks and needs:
        return Judgement(phase=BEFORE, why=loose, unsafe=f"{tight} {loose}", flips=False)
    if breaks:
        return Judgement(phase=AFTER, why=tight)
    return Judgement(phase=BEFORE, why=loose) if needs else _NOTHING


def _separate(
    operation: kinds.SeparateDatabaseAndState,
    app: str,
    state: ProjectState,
    novel: Novelties,
) -> Judgement:
    """Judge what happens in the database; by the words for the state where it is code."""
    parts = operation.database_operations
    if not parts:
        return _INVISIBLE
    is_code = all(isinstance(part, kinds.RunSQL | kinds.RunPython) for part in parts)
    words = operation.state_operations if is_code and operation.state_operations else parts
    return _worst(words, app, state, novel)


def _worst(
    parts: Sequence[Operation], app: str, state: ProjectState, novel: Novelties
) -> Judgement:
    scratch = state.clone()
    found: list[Judgement] = []
    for part in parts:
        found.append(judge(part, app, scratch, novel))
        part.state_forwards(app, scratch)
    sides = {judgement.phase for judgement in found} - {ANY}
    first = next((one for one in found if one.phase in sides), found[0])
    if len(sides) < 2:
        return first
    both = " ".join(one.why for one in found if one.phase in sides)
    return Judgement(phase=BEFORE, why=first.why, unsafe=both, flips=False)


def _named(model: ModelState) -> str:
    return f"{model.app_label}.{model.name}"
