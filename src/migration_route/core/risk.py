"""How dangerous a plan is, by its findings: the one word that pages and commands show."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum, unique
from typing import Protocol

from migration_route.core.enums import Severity
from migration_route.core.values import FAMILIES

_LOSES_DATA = FAMILIES["destructive"] | {"backwards"}


@unique
class Risk(StrEnum):
    SAFE = "safe"
    CAUTION = "caution"  # a warning, such as a lock on a large table
    DANGEROUS = "dangerous"  # data is lost, or the plan is blocked


class Judged(Protocol):
    """A finding, of a plan or on the wire."""

    @property
    def code(self) -> str: ...
    @property
    def severity(self) -> str: ...


def risk_of(findings: Iterable[Judged]) -> Risk:
    """Return the risk of a plan with these findings.

    A finding that its migration accepts has the severity `info` and adds no risk.
    """
    found = [one for one in findings if one.severity != Severity.INFO]
    if any(one.severity == Severity.BLOCKING or one.code in _LOSES_DATA for one in found):
        return Risk.DANGEROUS
    return Risk.CAUTION if found else Risk.SAFE
