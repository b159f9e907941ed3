"""What does an engine say? A frozen value; no Django here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One remark of another linter."""

    code: str  # "engine.rule"
    step: str  # "app.name"
    operation: int | None
    message: str
    hint: str
