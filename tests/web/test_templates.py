"""Tests of pages without the project's templates or static files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.test import Client

from migration_route.checks import check_settings
from migration_route.core.enums import Scope
from tests.web.conftest import SignIn

DJANGO = "django.template.backends.django.DjangoTemplates"
TEMPLATES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "no app directories": [{"BACKEND": DJANGO, "APP_DIRS": False}],
    "an unknown backend": [{"BACKEND": "no.such.Templates", "APP_DIRS": True}],
}
PAGES = ["", "runs/", "ledger/", "rehearsals/", "plan/"]


def browser(sign_in: SignIn) -> Client:
    """Return a client of a staff member with every right."""
    found = sign_in(*Scope)
    found.raise_request_exception = False
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_pages_without_templates_name_the_setting(
    sign_in: SignIn, settings: Any, name: str
) -> None:
    """For users, for holders of a permit, and for a wrong method; the check warns."""
    staff = browser(sign_in)
    settings.TEMPLATES = TEMPLATES[name]
    stranger = Client(raise_request_exception=False)
    answers = [staff.get(f"/migrations/{page}") for page in PAGES]
    answers.append(staff.put("/migrations/"))
    answers.append(stranger.get("/migrations/permit/"))
    answers.append(stranger.post("/migrations/permit/", {"permit": "x"}))
    for answer in answers:
        text = answer.content.decode()
        assert answer.status_code == 503, text
        assert "TEMPLATES" in text
        assert "APP_DIRS" in text
    assert [found.id for found in check_settings(None)] == ["migration_route.W011"]
    headers = {"Authorization": "Bearer reader-secret"}
    assert stranger.get("/migrations/api/v1/status", headers=headers).status_code == 200


def test_static_files_that_are_not_collected_cost_the_style_alone(
    sign_in: SignIn, settings: Any, tmp_path: Path
) -> None:
    """A manifest without an entry is an error of the tag `static`, also in the admin."""
    staff = browser(sign_in)
    settings.STATIC_ROOT = str(tmp_path)
    manifest = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": manifest},
    }
    settings.DEBUG = False
    with pytest.raises(ValueError, match="Missing staticfiles manifest entry"):
        staticfiles_storage.url("migration_route/route.css")
    for page in ("", "runs/", "ledger/"):
        answer = staff.get(f"/migrations/{page}")
        assert answer.status_code == 200, answer.content
        assert "/static/migration_route/route.css" in answer.content.decode()


@pytest.mark.parametrize("url", [None, ""])
def test_pages_without_an_address_for_static_files(
    sign_in: SignIn, settings: Any, url: str | None
) -> None:
    """STATIC_URL is not set."""
    staff = browser(sign_in)
    settings.STATIC_URL = url
    assert staff.get("/migrations/").status_code == 200
