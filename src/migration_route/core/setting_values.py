"""Readers of values in the settings: each returns the parsed value or raises `Invalid`.

It does not import Django, because the remote client uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias, TypeVar

from migration_route.core.clock import duration

Value = TypeVar("Value")
Reader: TypeAlias = Callable[[Any], Any]

DEFAULT: Final[Any] = object()
"""Returned by a reader for a value that stands for the default."""


class Invalid(ValueError):
    """The problems of a value, and the value that is used instead.

    A problem has no subject, such as "must be a dict."; a problem of a part of the value
    starts with the part's path, such as "[0]: must be a dict." or ": 'url' must be a URL."
    """

    def __init__(self, *problems: str, instead: Any = DEFAULT) -> None:
        super().__init__(*problems)
        self.problems = problems
        self.instead = instead


def about(subject: str, problems: Iterable[str]) -> list[str]:
    """Return problems with their subject, the key of the value."""
    return [
        f"{subject}{'' if problem[0] in ':[' else ' '}{problem}" for problem in problems
    ]


def checked(value: Value, problems: Iterable[str]) -> Value:
    """Return a value without problems; with any, raise `Invalid` with the value."""
    if problems := tuple(problems):
        raise Invalid(*problems, instead=value)
    return value


def read_keys(
    values: Mapping[Any, Any],
    readers: Mapping[str, Reader],
    subject: Callable[[str], str] = str,
) -> tuple[dict[str, Any], list[str]]:
    """Read a dict, each key with its reader; return the values that differ from the
    defaults, and all problems."""
    found: dict[str, Any] = {}
    problems: list[str] = []
    for key, given in values.items():
        if key not in readers:
            known = ", ".join(readers)
            problems.append(f"{key!r} is not a valid key. Valid keys: {known}.")
            continue
        try:
            value = readers[key](given)
        except Invalid as error:
            problems += about(subject(key), error.problems)
            value = error.instead
        if value is not DEFAULT:
            found[key] = value
    return found, problems


def read_entries(
    entries: Any,
    read: Callable[[Mapping[str, Any]], Value],
    *,
    instead: Callable[[str], Value] | None = None,
    unique: Callable[[Value], Iterable[str]] = lambda _: (),
    repeated: str = "",
) -> tuple[Value, ...]:
    """Read a list of dicts. Raises `Invalid` with the first problem of each.

    An invalid entry is left out, or replaced by what `instead` returns for its path. No two
    entries may share a value of `unique`; `repeated` is the problem of the second one, with
    `{}` for the index of the first.
    """
    if not isinstance(entries, list | tuple):
        raise Invalid("must be a list of dicts.", instead=(instead(""),) if instead else ())
    found: list[Value] = []
    problems: list[str] = []
    owners: dict[str, int] = {}
    for position, entry in enumerate(entries):
        try:
            if not isinstance(entry, Mapping):
                raise Invalid("must be a dict.")
            value = read(entry)
            if known := [owners[each] for each in unique(value) if each in owners]:
                raise Invalid(repeated.format(known[0]))
        except (ValueError, TypeError) as error:
            problems.append(f"[{position}]: {error}")
            if instead:
                found.append(instead(f"[{position}]"))
        else:
            owners |= dict.fromkeys(unique(value), position)
            found.append(value)
    return checked(tuple(found), problems)


def refuse_unknown_keys(
    entry: Mapping[Any, Any], known: Collection[str], valid: str | None = None
) -> None:
    """Raise `Invalid` for the keys of an entry that are not known."""
    if unknown := sorted(map(str, set(entry) - set(known))):
        raise Invalid(f"unknown keys {unknown}. Valid keys: {valid or ', '.join(known)}.")


def read_item(entry: Mapping[str, Any], key: str, read: Reader, default: Any = None) -> Any:
    """Read one key of an entry. Raises `Invalid`."""
    return read_items(entry, {key: read}).get(key, default)


def read_items(entry: Mapping[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Read some keys of an entry; return the values that differ from the defaults. Raises
    `Invalid` with the first problem."""
    found, problems = read_keys(
        {key: entry[key] for key in readers if key in entry}, readers, repr
    )
    if problems:
        raise Invalid(problems[0])
    return found


def optional(read: Reader) -> Reader:
    """Return a reader for which None stands for the default."""
    return lambda value: DEFAULT if value is None else read(value)


def reader(
    kind: str,
    is_valid: Callable[[Any], object],
    convert: Callable[[Any], Any] = lambda value: value,
    *,
    instead: Any = DEFAULT,
    shown: bool = True,
) -> Reader:
    """Return a reader of values of one kind. Its problem names the kind, and repeats the
    value if it is `shown`."""

    def read(value: Any) -> Any:
        if not is_valid(value):
            end = f", not {value!r:.80}." if shown else "."
            raise Invalid(f"must be {kind}{end}", instead=instead)
        return convert(value)

    return read


def duration_or_none(value: Any) -> timedelta | None:
    """Return the duration that a text stands for; None for anything else."""
    try:
        return duration(value)
    except (ValueError, AttributeError, TypeError, OverflowError):
        return None


def is_line(value: Any, longest: int) -> bool:
    """Return whether a value is one line of text, not empty and of limited length."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.isprintable()


def is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def is_list_of(value: Any, known: Iterable[str]) -> bool:
    """Return whether a value is a list of some of the known names."""
    names = list(known)  # a list compares values that have no hash
    return is_list(value) and all(name in names for name in value)


read_boolean = reader("True or False", lambda value: isinstance(value, bool), shown=False)

# An alias need not be one of this project.
read_aliases = reader(
    "a list of aliases",
    lambda value: is_list(value) and all(isinstance(alias, str) for alias in value),
    frozenset,
    shown=False,
)
