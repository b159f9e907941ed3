"""Skips or requires the third-party packages that a test's project uses.

`REQUIRE_PACKAGES=all`, or a list of names, makes a missing package an error instead of a
skipped test.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

REQUIRED = "REQUIRE_PACKAGES"
NOT_EVERYWHERE = {
    "mssql-django": sys.platform == "linux" and sys.version_info < (3, 14),
}
"""Packages that the test requirements install on some platforms only, each with whether
they do so on this one."""


def require(name: str) -> str:
    """Return the installed version of a distribution, or skip the test.

    Fails instead where `REQUIRE_PACKAGES` names the distribution.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        if _is_required(name):
            pytest.fail(f"{REQUIRED} names {name}, which is not installed")
        pytest.skip(f"{name} is not installed")


def needs(*names: str) -> pytest.MarkDecorator:
    """Return the marker of a test whose project uses these distributions."""
    return pytest.mark.needs_packages(*names)


def _is_required(name: str) -> bool:
    words = {
        word.lower() for word in os.environ.get(REQUIRED, "").replace(",", " ").split()
    }
    return name.lower() in words or ("all" in words and NOT_EVERYWHERE.get(name, True))
