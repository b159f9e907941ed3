"""Hypothesis strategies for histories of migrations, and their files.

Chains, branches that merge, dependencies between apps, squashed migrations; the applied
subset; and the requested targets.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.test import override_settings
from hypothesis import event
from hypothesis import strategies as st

OWN_APP = "migration_route"
APPS = ("north", "south", "west")
Key = tuple[str, str]


@dataclass(slots=True)
class Invented:
    """One migration, before it is written."""

    key: Key
    dependencies: list[Key] = field(default_factory=list)
    run_before: list[Key] = field(default_factory=list)
    replaces: list[Key] = field(default_factory=list)
    comment: str = ""

    def text(self) -> str:
        """Return its source."""
        return (
            "from django.db import migrations\n\n\n"
            "class Migration(migrations.Migration):\n"
            f"    dependencies = {self.dependencies!r}\n"
            f"    run_before = {self.run_before!r}\n"
            f"    replaces = {self.replaces!r}\n"
            f"    operations = []  # {self.comment}\n"
        )


_rarely = st.integers(1, 10).map(lambda number: number == 7)
_sometimes = st.integers(1, 4).map(lambda number: number == 3)
History = list[Invented]
"""Migrations in an order in which all of them could be applied; squashed ones last."""


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Generate a history: chains, branches that merge, dependencies between apps,
    squashes."""
    order = draw(st.lists(st.sampled_from(APPS), min_size=3, max_size=12))
    chains: dict[str, list[Invented]] = {app: [] for app in APPS}
    history: History = []
    for app in order:
        chain = chains[app]
        made = Invented((app, f"{len(chain) + 1:04}_step"))
        made.dependencies = draw(_within(chain)) + draw(_across(app, history))
        chain.append(made)
        history.append(made)
    if draw(_rarely):
        event("branches are left apart")
    else:
        for chain in chains.values():
            _merge(chain, history)
    keys = [made.key for made in history]
    for position, guest in enumerate(history):
        later = [key for key in keys[position + 1 :] if key[0] != guest.key[0]]
        invited: bool = draw(_sometimes)
        if later and invited:
            guest.run_before = [draw(st.sampled_from(later))]
    squashed = [squash for chain in chains.values() for squash in draw(_squashes(chain))]
    for squash in squashed:
        # A later migration may name either the squashed one or what it replaces.
        last = squash.replaces[-1]
        for other in history:
            if last in other.dependencies and other.key not in squash.replaces:
                named = draw(st.sampled_from([last, squash.key]))
                other.dependencies[other.dependencies.index(last)] = named
    return history + squashed


@st.composite
def _within(draw: st.DrawFn, chain: list[Invented]) -> list[Key]:
    """Depend on the one before, or rarely on an earlier one: a branch."""
    if not chain:
        return []
    branch = len(chain) > 1 and draw(_rarely)
    return [chain[-2 if branch else -1].key]


@st.composite
def _across(draw: st.DrawFn, app: str, history: History) -> list[Key]:
    """Depend on earlier migrations of other apps, by name or as their first."""
    others = [made.key for made in history if made.key[0] != app]
    if not others or draw(st.booleans()):
        return []
    names = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    if draw(_rarely):
        names.append((others[0][0], "__first__"))
    return names


def _merge(chain: list[Invented], history: History) -> None:
    """Make a last migration depend on all leaf nodes."""
    needed = {key for made in chain for key in made.dependencies}
    leaves = [made.key for made in chain if made.key not in needed]
    if len(leaves) > 1:
        made = Invented((leaves[0][0], f"{len(chain) + 1:04}_merge"), leaves)
        chain.append(made)
        history.append(made)


@st.composite
def _squashes(draw: st.DrawFn, chain: list[Invented]) -> list[Invented]:
    """Squash a part of a chain, or two disjoint parts, or nothing."""
    cuts = sorted(draw(st.sets(st.integers(0, len(chain)), max_size=4)))
    if draw(_sometimes):
        cuts = [0, len(chain)]
    found = []
    for first, end in zip(cuts[::2], cuts[1::2], strict=False):
        part = chain[first:end]
        if len(part) < 2:
            continue
        replaced = [made.key for made in part]
        needs = {key: None for made in part for key in made.dependencies}
        found.append(
            Invented(
                (replaced[0][0], f"{first + 1:04}_squashed_{end:04}"),
                dependencies=[key for key in needs if key not in replaced],
                replaces=replaced,
            )
        )
    return found


@st.composite
def applied_sets(draw: st.DrawFn, history: History) -> frozenset[Key]:
    """Generate an applied subset with its dependencies; rarely, any subset."""
    plain = [made for made in history if not made.replaces]
    chosen = set(draw(st.lists(st.sampled_from([made.key for made in plain]))))
    if not draw(_rarely):
        aliases = {squash.key: squash.replaces for squash in history if squash.replaces}
        for made in reversed(plain):
            if made.key in chosen or chosen.intersection(made.run_before):
                chosen.add(made.key)
                for key in made.dependencies:
                    first = next((m.key for m in plain if m.key[0] == key[0]), key)
                    chosen.update(
                        [first] if key[1] == "__first__" else aliases.get(key, [key])
                    )
    for squash in history:
        # Django records it with the last of what it replaces; a run that precedes the
        # squash has not.
        if squash.replaces and chosen.issuperset(squash.replaces) and draw(st.booleans()):
            chosen.add(squash.key)
    if draw(_rarely):
        chosen.add(("north", "0099_of_newer_code"))
    return frozenset(chosen)


@st.composite
def requests(draw: st.DrawFn, history: History) -> tuple[str, ...]:
    """Request everything, or one or more targets, as a user would type them."""
    apps = sorted({made.key[0] for made in history})
    names = [f"{app}.{name}" for app, name in (made.key for made in history)]
    prefixes = sorted({name[: name.index("_")] for name in names})
    place = st.one_of(
        st.sampled_from(apps),
        st.sampled_from(names),
        st.sampled_from(names),
        st.sampled_from(prefixes),
        st.sampled_from([f"{app}.zero" for app in apps]),
    )
    return tuple(draw(st.lists(place, max_size=3)))


_numbers = itertools.count()


@contextmanager
def written(history: History, root: Path) -> Iterator[dict[Key, Path]]:
    """Write the modules and register the apps; return the file of each migration."""
    package = f"histories_{next(_numbers)}"
    apps = sorted({made.key[0] for made in history})
    for app in apps:
        for folder in (root / package, root / package / app, root / app):
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").touch()
    files = {
        made.key: root / package / made.key[0] / f"{made.key[1]}.py" for made in history
    }
    for made in history:
        files[made.key].write_text(made.text())
    importlib.invalidate_caches()
    modules = {app: f"{package}.{app}" for app in apps}
    with override_settings(INSTALLED_APPS=[OWN_APP, *apps], MIGRATION_MODULES=modules):
        yield files
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]
