"""Project states that render their models on demand.

Django renders every model of a project before the first operation, and after most
operations renders the changed model again, with every model that is related to it. An
operation reads few of them. `LazyProjectState` records what Django's state records, and its
registry renders a model, and what the model refers to, when it is asked for:

- Clones share their model states. A model state is copied before it is changed
  (`ModelStates`).
- A registry belongs to one `Snapshot`, which never changes. States with equal models share
  the snapshot, so the state after an operation and the state before the next one are
  rendered once.
- `get_model` renders the model, its bases and what it refers to; of the latter, only what
  determines the types of their keys. Every other question (`get_models`, reverse relations,
  the models of an app) renders all models.

The order of columns in a table that SQLite remakes follows `Field.creation_counter`, which
Django increments when it renders. Here the counters follow the order of the snapshots, so
that they do not depend on which state is asked first.
"""

# ruff: noqa: FBT001, FBT002 - the signatures are Django's

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from typing import Any, cast

from django.apps.registry import Apps
from django.conf import settings
from django.core.checks import model_checks
from django.db.migrations.state import (
    AppConfigStub,
    ModelState,
    ProjectState,
    StateApps,
)
from django.db.migrations.utils import resolve_relation
from django.db.models import NOT_PROVIDED, Field, Model
from django.db.models.utils import make_model_tuple

from migration_route.planning.model_references import (
    Key,
    bases_first,
    bases_of,
    key_of,
    key_references,
    real_models,
    references,
)


class Snapshot:
    """The models of a project at one point of its history, and their registry."""

    def __init__(
        self,
        models: Mapping[Key, ModelState],
        removed: Mapping[Key, ModelState],
        real_apps: frozenset[str],
    ) -> None:
        self.models = models
        self.removed = removed
        self.real_apps = real_apps
        # A new field takes the next counter: larger than those of earlier snapshots, and
        # smaller than those of fields that are made later.
        self.counter = Field().creation_counter

    @cached_property
    def apps(self) -> LazyApps:
        return LazyApps(self)


class ModelStates(dict[Key, ModelState]):
    """The model states of a project by key; those that a snapshot shares are copied before
    they can be changed."""

    def __init__(
        self,
        models: Mapping[Key, ModelState] | Iterable[tuple[Key, ModelState]] = (),
        *,
        real_apps: Iterable[str] = (),
        snapshot: Snapshot | None = None,
    ) -> None:
        super().__init__(models)
        self.real_apps = frozenset(real_apps)
        self.removed: Mapping[Key, ModelState] = snapshot.removed if snapshot else {}
        self._snapshot = snapshot
        self._copied: set[Key] = set()

    def __getitem__(self, key: Key) -> ModelState:
        state = super().__getitem__(key)
        if self._snapshot is not None and key not in self._copied:
            state = state.clone()
            super().__setitem__(key, state)
            self._copied.add(key)
        return state

    def __setitem__(self, key: Key, state: ModelState) -> None:
        super().__setitem__(key, state)
        self._copied.add(key)

    def get(self, key: Key, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 - this is `get`

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        self._copied.add(key)

    def pop(self, key: Key, *default: Any) -> Any:
        if key not in self and default:
            return default[0]
        state = self[key]
        del self[key]
        return state

    # Those of `dict` neither copy nor note what changes.
    clear = MutableMapping.clear
    setdefault = MutableMapping.setdefault
    update = MutableMapping.update

    def popitem(self) -> tuple[Key, ModelState]:
        key = next(reversed(self), None)
        if key is None:
            raise KeyError("popitem(): dictionary is empty")
        return key, self.pop(key)

    def __ior__(self, other: Any) -> ModelStates:  # type: ignore[override,misc]
        self.update(other)
        return self

    def copy_all(self) -> None:
        """Copy every model state, because what follows changes them through an iterator."""
        for key in self:
            self[key]

    def detach(self, keys: Iterable[Key] | None = None) -> None:
        """Copy these model states, by default all, with their fields and options, because
        what follows changes them in place or through an iterator."""
        for key in list(self if keys is None else keys):
            state = self[key]
            state.fields = {name: field.clone() for name, field in state.fields.items()}
            state.options = {name: copy(value) for name, value in state.options.items()}

    def referring_to(self, target: Key) -> Iterator[Key]:
        """Yield the models with a field that refers to this one."""
        for key, state in self.items():
            for field in state.fields.values():
                if (relation := field.remote_field) and any(
                    model and resolve_relation(model, *key) == target
                    for model in (relation.model, getattr(relation, "through", None))
                ):
                    yield key
                    break

    def with_base(self, base: Key) -> list[Key]:
        """Return the models that inherit from this one."""
        return [
            key
            for key, state in self.items()
            if any(name == base for name, _ in bases_of(state, is_whole=True))
        ]

    def remember(self, key: Key) -> None:
        """Keep a model that is about to be removed, for those that still refer to it."""
        if key in self:
            self.removed = {**self.removed, key: super().__getitem__(key)}

    def snapshot(self) -> Snapshot:
        """Return the models as they are now; the same object until one of them changes."""
        last = self._snapshot
        if last is None or any(self._differs(key, last) for key in self._copied):
            self._snapshot = Snapshot(dict(self), self.removed, self.real_apps)
            self._copied = set()
        return cast("Snapshot", self._snapshot)

    def snapshot_to_share(self) -> Snapshot:
        """Return the models as they are now, for a clone. A registry that was handed to
        code which may ask for anything, and has not asked yet, is left to it alone."""
        snapshot = self.snapshot()
        if snapshot.apps.is_reserved:
            snapshot = Snapshot(snapshot.models, snapshot.removed, snapshot.real_apps)
            self._snapshot = snapshot
        return snapshot

    def _differs(self, key: Key, last: Snapshot) -> bool:
        now, then = super().get(key), last.models.get(key)
        if now is None or then is None:
            return now is not then
        return _contents(now) != _contents(then)


def _contents(state: ModelState) -> tuple[Any, ...]:
    """Return what distinguishes a model state from its copy: a value that Django changes is
    replaced by another object."""
    return (
        state.name,
        [(name, id(field)) for name, field in state.fields.items()],
        [(name, id(value)) for name, value in state.options.items()],
        id(state.bases),
        [(name, id(manager)) for name, manager in state.managers],
    )


class LazyProjectState(ProjectState):
    """A project state whose registry renders on demand; a drop-in for `ProjectState`."""

    models: ModelStates

    def __init__(
        self,
        models: Mapping[Key, ModelState] | None = None,
        real_apps: set[str] | None = None,
    ) -> None:
        super().__init__(None, real_apps)
        if not isinstance(models, ModelStates):
            models = ModelStates(models or {}, real_apps=self.real_apps)
        self.models = models
        self._is_for_other_code = False

    @contextmanager
    def for_other_code(self) -> Iterator[None]:
        """Allow anything to code that is not Django's, in this block: the registries of
        this state and of its clones render all models as soon as one is asked for, and the
        clones share nothing that can be changed in place."""
        before = self._is_for_other_code
        self._is_for_other_code = True
        try:
            yield
        finally:
            self._is_for_other_code = before

    @property
    def apps(self) -> LazyApps:
        # Django looks here for whether a state is rendered, and says so on the terminal.
        self.__dict__["apps"] = None
        apps = self.models.snapshot().apps
        if self._is_for_other_code:
            apps.require_all()
        return apps

    @apps.deleter
    def apps(self) -> None:
        self.__dict__.pop("apps", None)

    def clone(self) -> LazyProjectState:
        snapshot = self.models.snapshot_to_share()
        models = ModelStates(snapshot.models, real_apps=self.real_apps, snapshot=snapshot)
        clone = LazyProjectState(models, self.real_apps)
        clone.is_delayed = self.is_delayed
        if self._is_for_other_code:
            clone.models.detach()
            clone._is_for_other_code = True
        if "apps" in self.__dict__:
            clone.__dict__["apps"] = None
        return clone

    def clear_delayed_apps_cache(self) -> None:
        """Render all models when one is asked for: the caller passes the registry to code
        that may follow reverse relations on instances."""
        self.apps.require_all()

    def reload_model(self, app_label: str, model_name: str, delay: bool = False) -> None:
        """Do nothing: the next snapshot differs."""

    def reload_models(self, models: Iterable[Key], delay: bool = True) -> None:
        """Do nothing: the next snapshot differs."""

    def remove_model(self, app_label: str, model_name: str) -> None:
        self.models.remember((app_label, model_name))
        # The parent removes the model from a registry that is rendered.
        self.__dict__.pop("apps", None)
        super().remove_model(app_label, model_name)

    def rename_model(self, app_label: str, old_name: str, new_name: str) -> None:
        self.models.copy_all()
        is_rendered = "apps" in self.__dict__
        removed = self.models.removed
        children = self.models.with_base((app_label, old_name.lower()))
        super().rename_model(app_label, old_name, new_name)
        if not children:
            self.models.removed = removed  # it still exists, under its new name
        elif is_rendered:
            # Django leaves the old name in their bases. It renders those that refer to it
            # again, which fails: here, too, before anything is sent.
            for child in children:
                self.apps.get_model(*child)

    def alter_field(
        self,
        app_label: str,
        model_name: str,
        name: str,
        field: Field[Any, Any],
        preserve_default: bool,
    ) -> None:
        if self._relations is not None:  # then Django updates them
            super().alter_field(app_label, model_name, name, field, preserve_default)
            return
        # Django also searches the project for references, to reload their models.
        if not preserve_default:
            field = field.clone()
            field.default = NOT_PROVIDED
        self.models[app_label, model_name].fields[name] = field

    def rename_field(
        self, app_label: str, model_name: str, old_name: str, new_name: str
    ) -> None:
        key = app_label, model_name
        if key in self.models:
            # Django changes the fields of the model, and those that refer to it.
            self.models.detach({key, *self.models.referring_to(key)})
        self._relations = None
        super().rename_field(app_label, model_name, old_name, new_name)


class LazyApps(StateApps):
    """The registry of a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._visited: set[Key] = set()
        self._whole: set[Key] = set()
        self._removed: set[Key] = set()
        self._requires_all = False
        self._has_all = False
        self.real_models = real_models(snapshot.real_apps)
        self._real = {key_of(state): state for state in self.real_models}
        labels = {label for label, _ in snapshot.models} | snapshot.real_apps
        Apps.__init__(self, [_LazyAppConfig(label) for label in sorted(labels)])
        # As in the parent: both prevent copying.
        self._lock = None
        self.ready_event = None  # type: ignore[assignment]

    def require_all(self) -> None:
        """Render all models as soon as one is asked for."""
        self._requires_all = True

    @property
    def is_reserved(self) -> bool:
        """Whether all models are to be rendered, and none was asked for yet."""
        return self._requires_all and not self._has_all

    def render_all(self) -> None:
        """Render all models. Raises `ValueError` if one refers to a missing one."""
        if self._has_all:
            return
        self._has_all = True
        self._render(self._snapshot.models.keys() | self._real.keys())
        ignored = {make_model_tuple(settings.AUTH_USER_MODEL)}
        find_errors = model_checks._check_lazy_references  # type: ignore[attr-defined]
        if errors := find_errors(self, ignore=ignored):
            raise ValueError("\n".join(error.msg for error in errors))

    def get_model(
        self, app_label: str, model_name: str | None = None, require_ready: bool = True
    ) -> type[Model]:
        if model_name is None:
            app_label, model_name = app_label.split(".")
        key = app_label, model_name.lower()
        self.render(key)
        if key in self._removed and not self.ready:  # the base of a model being rendered
            return self.all_models[app_label][key[1]]
        return super().get_model(app_label, model_name, require_ready)

    def get_models(
        self, include_auto_created: bool = False, include_swapped: bool = False
    ) -> list[type[Model]]:
        return [
            model
            for config in self.get_app_configs()
            for model in config.get_models(include_auto_created, include_swapped)
        ]

    def render(self, key: Key) -> None:
        """Render a model and what it refers to, if it is known."""
        if self._requires_all or not self._is_known(key):
            if self.ready:  # otherwise it is asked while others are rendered
                self.render_all()
        elif key not in self._whole:
            self._render([key])

    def register_model(self, app_label: str, model: type[Model]) -> None:
        fields = model._meta.local_fields
        for position, field in enumerate(fields, start=1):
            if field.creation_counter >= 0:  # not one that Django has added
                field.creation_counter = self._snapshot.counter + position / (  # type: ignore[assignment]
                    len(fields) + 1
                )
        name = cast("str", model._meta.model_name)
        self.all_models[app_label][name] = model
        if (app_label, name) not in self._removed:
            if app_label not in self.app_configs:
                config = _LazyAppConfig(app_label)
                config.apps = self
                self.app_configs[app_label] = config
            self._config(app_label).rendered[name] = model
        self.do_pending_operations(model)
        self.clear_cache()

    def unregister_model(self, app_label: str, model_name: str) -> None:
        # `migrate` replaces models before it sends post_migrate: what replaces them stays.
        self.render_all()
        self.all_models[app_label].pop(model_name, None)
        if app_label in self.app_configs:
            self._config(app_label).rendered.pop(model_name, None)

    def clear_cache(self) -> None:
        self.get_swappable_settings_name.cache_clear()  # type: ignore[attr-defined]
        if self.ready:
            for models in self.all_models.values():
                for model in models.values():
                    model._meta._expire_cache()  # type: ignore[attr-defined]

    def clone(self) -> LazyApps:
        clone = LazyApps(self._snapshot)
        clone._requires_all = self._requires_all
        return clone

    def _config(self, label: str) -> _LazyAppConfig:
        return cast("_LazyAppConfig", self.app_configs[label])

    def _is_known(self, key: Key) -> bool:
        return self._state(key) is not None

    def _state(self, key: Key) -> ModelState | None:
        return self._snapshot.models.get(key) or self._real.get(key)

    def _render(self, keys: Iterable[Key]) -> None:
        found: dict[Key, ModelState] = {}
        open_keys = [(key, True) for key in keys]
        while open_keys:
            key, is_whole = open_keys.pop()
            if key in (self._whole if is_whole else self._visited):
                continue
            state = self._state(key)
            if state is None and (state := self._snapshot.removed.get(key)):
                self._removed.add(key)
            if state is not None:
                if key not in self._visited:
                    found[key] = state
                open_keys += references(state) if is_whole else key_references(state)
            self._visited.add(key)
            if is_whole:
                self._whole.add(key)
        if found:
            self.render_multiple(bases_first(found))


class _LazyAppConfig(AppConfigStub):
    """An app of a registry that renders on demand."""

    apps: LazyApps

    def __init__(self, label: str) -> None:
        self.rendered: dict[str, type[Model]] = {}
        super().__init__(label)

    @property
    def models(self) -> dict[str, type[Model]]:
        self.apps.render_all()
        return self.rendered

    @models.setter
    def models(self, models: dict[str, type[Model]]) -> None:
        """Do nothing: the registry adds what it renders."""

    def import_models(self) -> None:
        """Do nothing: the registry adds what it renders."""

    def get_model(self, model_name: str, require_ready: bool = True) -> type[Model]:
        del require_ready
        self.apps.render((self.label, model_name.lower()))
        try:
            return self.rendered[model_name.lower()]
        except KeyError:
            message = f"App '{self.label}' doesn't have a '{model_name}' model."
            raise LookupError(message) from None
