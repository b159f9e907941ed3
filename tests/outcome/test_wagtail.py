"""Outcome tests with Wagtail from the package index and all of its migrations."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import django
import pytest
from packaging.requirements import Requirement

from tests.harness.databases import VENDORS
from tests.outcome import surroundings

if TYPE_CHECKING:
    from tests.outcome.conftest import Prepare

NOT_OURS = {"blocks", "project_template", "test"}
"""Folders of Wagtail that contain no migrations of an installable app."""


def reason() -> str:
    """Return why Wagtail cannot be used here; empty when it can."""
    try:
        wanted = [Requirement(text) for text in requires("wagtail") or ()]
    except PackageNotFoundError:
        return "Wagtail is not installed"
    version = django.get_version()
    for requirement in wanted:
        known = requirement.name.lower() == "django" and not requirement.marker
        if known and not requirement.specifier.contains(version, prereleases=True):
            return f"this Wagtail wants {requirement}, here is {version}"
    return ""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.wagtail,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(bool(reason()), reason=reason()),
]


def names_of_migrations() -> set[str]:
    """Return every migration that Wagtail contains, found by its file."""
    spec = find_spec("wagtail")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    return {
        path.stem
        for path in root.rglob("migrations/[0-9]*.py")
        if not NOT_OURS.intersection(path.relative_to(root).parts)
    }


@pytest.mark.parametrize("vendor", VENDORS)
def test_wagtail_on_an_empty_database(prepare: Prepare, vendor: str) -> None:
    """All of Wagtail has the same outcome both ways; so has one of its apps that is
    reversed to zero and applied again."""
    both = prepare(vendor, surroundings.wagtail(vendor))

    run = both.migrate()

    assert both.differences() == []
    assert len(run["steps"]) > 150
    database = both.route.database
    recorded = {name for (name,) in database.rows("SELECT name FROM django_migrations")}
    assert names_of_migrations() <= recorded

    for target in ("wagtailredirects.zero", "wagtailredirects"):
        both.migrate(target)
        assert both.differences() == [], target
