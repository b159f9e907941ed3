"""Tests that no result cache of the ORM answers this package's reads."""

from __future__ import annotations

import pytest

from tests.e2e.test_sign_in_packages import CONTRIB
from tests.harness.client import expect
from tests.harness.migrations import column, running
from tests.harness.packages import needs
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options
from tests.harness.redis_server import redis_server

APPS = ["shop", *CONTRIB, "migration_route"]
CACHALOT = {
    "INSTALLED_APPS": [*APPS, "cachalot"],
    # Not its default: the recorder's table is cached as well.
    "CACHALOT_UNCACHABLE_TABLES": [],
}
NAMES = "from shop.models import Item; print([item.name for item in Item.objects.all()])"
RENAME = 'Item.objects.using(alias).update(name="renamed")'


@pytest.fixture
def redis(tmp_path):
    """Yield the URL of a Redis server."""
    with redis_server(tmp_path) as url:
        yield url


def cacheops(url):
    """Return the settings of a project that caches every model for an hour."""
    return {
        "INSTALLED_APPS": ["cacheops", *APPS],
        "CACHEOPS_REDIS": url,
        "CACHEOPS": {"*.*": {"ops": "all", "timeout": 3600}},
    }


def shared_cachalot(url):
    """Return the settings of a project whose processes share cachalot's cache."""
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}
    return {**CACHALOT, "CACHES": {"default": cache}}


def is_at_home(site):
    """Apply by the API and by the command, and read the page, with processes that have read
    the same before."""
    ci, boss = site.client("ci"), site.person("boss")
    for _ in range(3):  # every worker has read it
        assert ci.status()["default"]["pending"] == 1
        assert ci.get("runs")["runs"] == []
        assert boss.http.get("/_m/").status_code == 200
    run = ci.apply()
    assert run["state"] == "succeeded"
    for _ in range(3):
        status = ci.status()["default"]
        assert (status["pending"], status["active_run"]) == (0, None)
        assert ci.get(f"runs/{run['id']}")["state"] == "succeeded"
        page = boss.http.get(f"/_m/runs/{run['id']}/")
        assert page.status_code == 200
        assert "succeeded" in page.text
    assert ci.events(run["id"])[-1]["text"] == "succeeded"
    site.project.add_migrations({"0003_more": column("more", after="0002_sku")})
    said = site.project.manage("migration_route", "apply", "--yes", timeout=60)
    assert said.returncode == 0
    server = site.serve()
    ci = site.client("ci", server=server)
    assert ci.status()["default"]["pending"] == 0
    assert ci.get("ledger/verify")["intact"]
    assert [found["state"] for found in ci.get("runs")["runs"]] == ["succeeded"] * 2
    assert expect(ci.call("GET", "ready"), 200) == {"ready": True}
    assert site.has_column("more")


@needs("django-cachalot")
@on_each_once
def test_with_cachalot_in_the_memory_of_each_process(build, pair):
    """A process does not notice what another one has written, and does not need to."""
    site = build(pair, {"0002_sku": column("sku")}, options=Options(settings=CACHALOT))
    is_at_home(site)


@needs("django-cachalot")
@on("postgres-sync", "sqlite-uvicorn")
def test_with_cachalot_in_redis(build, pair, redis):
    """Its cache is shared by server, supervisor and worker."""
    options = Options(settings=shared_cachalot(redis))
    is_at_home(build(pair, {"0002_sku": column("sku")}, options=options))


@needs("django-cacheops")
@on_each_once
def test_with_cacheops_on_every_model(build, pair, redis):
    """It is not notified of updates of a queryset."""
    options = Options(settings=cacheops(redis))
    is_at_home(build(pair, {"0002_sku": column("sku")}, options=options))


@needs("django-cachalot")
@on_each_once
def test_a_migration_invalidates_what_the_project_has_cached(build, pair, redis):
    """As `manage.py migrate` does: the worker writes through the same alias."""
    options = Options(settings=shared_cachalot(redis))
    site = build(pair, {"0002_rename": running(RENAME)}, options=options)
    site.execute("INSERT INTO shop_item (name) VALUES ('first')")
    assert site.project.python(NAMES) == "['first']"
    site.execute("UPDATE shop_item SET name = 'not seen'")
    assert site.project.python(NAMES) == "['first']"  # it is cached
    assert site.client("ci").apply()["state"] == "succeeded"
    assert site.project.python(NAMES) == "['renamed']"
