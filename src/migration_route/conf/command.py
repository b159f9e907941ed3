"""COMMAND: the command line that starts the project's commands in a new process.

Without the setting, the project's `manage.py` is used if there is one: what it prepares
(django-configurations, a database driver under another name, a file with environment
variables) is then prepared in the new process as well. A file that may belong to another
project is never used, and a new process that finds different settings refuses to work.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings

from migration_route.core import subprocesses
from migration_route.core.errors import LaunchFailed
from migration_route.core.setting_values import reader

_PYTHON = re.compile(r"python(\d(\.\d+)?)?")
_MODULE = subprocesses.SETTINGS_MODULE


HINT = (
    'Set MIGRATION_ROUTE["COMMAND"] to the command line that starts the project\'s '
    'commands, such as ["python", "/srv/shop/manage.py"].'
)


def command_line(words: tuple[str, ...]) -> list[str]:
    """Return the start of a command line, such as `python manage.py migration_route`, from
    the words of COMMAND; no words select the default.

    A first word `python` means the interpreter of this process, not one from PATH. Raises
    `LaunchFailed` if a word names nothing that can be started.
    """
    words = words or default_command()
    if problem := problem_of(words):
        raise LaunchFailed(problem, hint=HINT)
    first, *others = words
    if _PYTHON.fullmatch(first):
        first = subprocesses.interpreter()
    if (script := _script_in(words)) and (path := _file_of(script)):
        others[others.index(script)] = str(path)
    return [first, *others, "migration_route"]


def problem_of(words: tuple[str, ...]) -> str:
    """Return what is wrong with a command line; empty if nothing is."""
    first = words[0]
    if not _PYTHON.fullmatch(first) and shutil.which(first) is None:
        return f"COMMAND cannot be started: the program {first!r} is not found."
    script = _script_in(words)
    if script and _file_of(script) is None:
        return f"COMMAND cannot be started: the file {script!r} does not exist."
    return ""


def default_command() -> tuple[str, ...]:
    """Return the command line without COMMAND: the project's `manage.py`, or Django's
    own."""
    found = _manage_py(os.environ.get(_MODULE, ""), _main_file(), _base_folder())
    return ("python", "-m", "django") if found is None else ("python", str(found))


def _is_word(word: object) -> bool:
    text = str(word) if isinstance(word, str | os.PathLike) else ""
    return bool(text) and "\0" not in text


read_command = reader(
    "a list of strings, such as ['python', 'manage.py']",
    lambda value: isinstance(value, list | tuple) and value and all(map(_is_word, value)),
    lambda value: tuple(map(str, value)),
)


def _script_in(words: tuple[str, ...]) -> str:
    """Return the Python file among the words; empty if there is none."""
    return next((word for word in words[1:] if word.endswith(".py")), "")


def _file_of(script: str) -> Path | None:
    """Return the path of a script below the working directory, or below a directory that
    the project's settings are imported from."""
    for folder in (*_working_folder(), *_roots(os.environ.get(_MODULE, ""))):
        if (folder / script).is_file():
            return folder / script
    return None


def _manage_py(module: str, main: str, base: str) -> Path | None:
    """Return the `manage.py` of the project with these settings.

    The one that started this process belongs to the project. Any other is in the directory
    that the settings are imported from, or above them in BASE_DIR or in the working
    directory, and it starts the same settings package.
    """
    if main and Path(main).name == "manage.py" and Path(main).is_file():
        return Path(main)
    file = _settings_file(module)
    if file is None:
        return None
    roots = list(_roots(module))
    above = [Path(base)] if base else []
    for folder in [*roots, *above, *_working_folder()]:
        found = (folder / "manage.py").absolute()
        if not found.is_file() or not file.is_relative_to(found.resolve().parent):
            continue
        if _starts(found, module, is_root=folder in roots):
            return found
    return None


def _starts(path: Path, module: str, *, is_root: bool) -> bool:
    """Return whether a `manage.py` starts the settings with this name, or leaves the choice
    to the environment. One that names no settings counts if it is where they are imported
    from."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    found = list(_named_settings(tree))
    package = module.partition(".")[0]
    if not found:
        return is_root
    return all(
        name == module or (is_default and name.partition(".")[0] == package)
        for name, is_default in found
    )


def _named_settings(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield the settings that a file names, each with whether it is a default that the
    environment overrides."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="setdefault"),
                args=[ast.Constant(value=key), ast.Constant(value=str(name))],
            ) if key == _MODULE:
                yield name, True
            case ast.Assign(
                targets=[ast.Subscript(slice=ast.Constant(value=key))],
                value=ast.Constant(value=str(name)),
            ) if key == _MODULE:
                yield name, False


def _roots(module: str) -> Iterator[Path]:
    """Yield the directories that the settings' package is imported from."""
    package = module.partition(".")[0]
    try:
        spec = find_spec(package) if package else None
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    locations = list(spec.submodule_search_locations or ())
    yield from (Path(location).absolute().parent for location in locations)
    if not locations and spec.origin and spec.has_location:
        yield Path(spec.origin).absolute().parent


def _settings_file(module: str) -> Path | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).resolve() if file else None


def _main_file() -> str:
    return str(getattr(sys.modules.get("__main__"), "__file__", None) or "")


def _base_folder() -> str:
    found = getattr(settings, "BASE_DIR", None)
    return str(found) if isinstance(found, str | os.PathLike) else ""


def _working_folder() -> list[Path]:
    try:
        return [Path.cwd()]
    except OSError:  # removed, as by a deploy that replaces the release
        return []
