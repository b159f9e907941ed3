"""Reads the source of the function that a RunPython runs, without calling it.

A function that cannot be read causes no finding.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import textwrap
from collections.abc import Hashable, Iterator
from functools import lru_cache
from typing import Any

from django.db import connection
from django.db.models import Model

from migration_route.planning.changes.types import PythonCode

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_NAMES_A_DATABASE = {"using", "db_manager"}


def read_function(function: Any) -> PythonCode | None:
    """Return what a function does, including the functions of its module that it passes
    `apps` to; None where there is no source."""
    return _read(function) if isinstance(function, Hashable) else None


@lru_cache(maxsize=2048)
def _read(function: Hashable) -> PythonCode | None:
    plain = _plain(function)
    bodies = list(_bodies(plain, set()))
    if not bodies:
        return None
    forgets: dict[str, None] = {}
    imports: dict[str, None] = {}
    knows = any(_knows_alias(tree) for tree, _ in bodies)
    guards = knows and not any(_names_a_database(tree) for tree, _ in bodies)
    for tree, home in bodies:
        if not guards:  # else it checks the alias, and returns or continues
            forgets.update(dict.fromkeys(_forgotten(tree, home)))
        imports.update(dict.fromkeys(_imported(tree, home)))
    return PythonCode(
        name=getattr(plain, "__name__", "its function"),
        reaches_rows=any(_reaches_rows(tree) for tree, _ in bodies),
        forgets=tuple(forgets),
        imports=tuple(imports),
    )


def _plain(function: Any) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.unwrap(function)


def _bodies(function: Any, seen: set[str]) -> Iterator[tuple[ast.AST, dict[str, Any]]]:
    """Yield the source of a function, and of the functions of its module that it calls with
    `apps` or `schema_editor`."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return
    if not any(isinstance(node, _FUNCTIONS) for node in ast.walk(tree)):
        return  # the source of something else with the same file name
    home = getattr(function, "__globals__", {})
    yield tree, home
    seen.add(getattr(function, "__name__", ""))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        called = home.get(node.func.id)
        handed = {arg.id for arg in node.args if isinstance(arg, ast.Name)}
        if node.func.id in seen or not handed & {"apps", "schema_editor"}:
            continue
        if inspect.isfunction(called) and called.__globals__ is home:
            yield from _bodies(called, seen)


def _knows_alias(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and (node.attr == "alias" or (node.attr == "connection" and _is_editor(node.value)))
        for node in ast.walk(tree)
    )


def _is_editor(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"schema_editor", "editor"}


def _names_a_database(tree: ast.AST) -> bool:
    return any(
        (isinstance(node, ast.Attribute) and node.attr in _NAMES_A_DATABASE)
        or (isinstance(node, ast.keyword) and node.arg == "using")
        for node in ast.walk(tree)
    )


def _reaches_rows(tree: ast.AST) -> bool:
    """Return whether a function runs queries: through a model, with SQL other than a
    session setting (`schema_editor.execute("PRAGMA ...")`), or through another function."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        text = node.args[0] if node.args else None
        words = str(text.value).split() if isinstance(text, ast.Constant) else []
        if not words or words[0].lower() not in {"pragma", "set"}:
            return True
    return False


def _forgotten(tree: ast.AST, home: dict[str, Any]) -> Iterator[str]:
    """Yield what runs on the database that the router or the default selects."""
    named = _manager_chains_with_a_database(tree)
    local = _assigned(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "objects":
            if isinstance(node.value, ast.Name) and node not in named:
                yield f"{node.value.id}.objects"
        elif isinstance(node, ast.Call) and _is_atomic(node.func):
            if not node.args and not any(word.arg == "using" for word in node.keywords):
                yield "transaction.atomic()"
        elif isinstance(node, ast.Name) and node.id in home.keys() - local:
            yield from [node.id] if home[node.id] is connection else []


def _assigned(tree: ast.AST) -> set[str]:
    """Return the names that a function assigns."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _manager_chains_with_a_database(tree: ast.AST) -> set[ast.AST]:
    """Return the `Model.objects` that `.using(...)` or `.db_manager(...)` follows."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _NAMES_A_DATABASE:
            found.update(ast.walk(node.value))
    return found


def _is_atomic(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "atomic"
        and isinstance(function.value, ast.Name)
        and function.value.id == "transaction"
    )


def _imported(tree: ast.AST, home: dict[str, Any]) -> Iterator[str]:
    """Yield the models that come from the code instead of from `apps`."""
    local = _assigned(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            module = sys.modules.get(node.module)
            for name in node.names:
                if _is_model(getattr(module, name.name, None)):
                    yield name.name
        elif isinstance(node, ast.Name) and node.id in home.keys() - local:
            yield from [node.id] if _is_model(home[node.id]) else []


def _is_model(found: object) -> bool:
    if not inspect.isclass(found) or not issubclass(found, Model) or found is Model:
        return False
    return not found._meta.abstract
