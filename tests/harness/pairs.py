"""Selects the databases and servers that an end-to-end test runs on."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.harness.databases import VENDORS
from tests.harness.servers import ServerKind


@dataclass(frozen=True, slots=True)
class Pair:
    """One kind of database behind one kind of server."""

    vendor: str
    kind: ServerKind

    def __str__(self) -> str:
        return f"{self.vendor}-{self.kind}"


EVERY_PAIR = [Pair(vendor, kind) for vendor in VENDORS for kind in ServerKind]
EACH_ONCE = [Pair(vendor, kind) for vendor, kind in zip(VENDORS, ServerKind, strict=True)]

on_every_pair = pytest.mark.parametrize("pair", EVERY_PAIR, ids=str)
on_each_once = pytest.mark.parametrize("pair", EACH_ONCE, ids=str)


def on(*names: str) -> pytest.MarkDecorator:
    """Run the test on the pairs of these names, such as `postgres-sync`."""
    chosen = [pair for pair in EVERY_PAIR if str(pair) in names]
    assert len(chosen) == len(names)
    return pytest.mark.parametrize("pair", chosen, ids=str)
