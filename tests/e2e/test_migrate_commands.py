"""Tests of projects whose `migrate` command is their own or another package's."""

from __future__ import annotations

from tests.e2e.test_sign_in_packages import CONTRIB, MIDDLEWARE
from tests.harness.client import expect_problem
from tests.harness.migrations import column
from tests.harness.packages import needs
from tests.harness.pairs import on, on_each_once
from tests.harness.project import Options

OWN_COMMAND = """
from django.core.management.commands import migrate

class Command(migrate.Command):
    def add_arguments(self, parser):
        parser.add_argument("app_label", nargs="?")
        parser.add_argument("migration_name", nargs="?")
        parser.add_argument("--noinput", action="store_false", dest="interactive")
        parser.add_argument("--db", dest="database", default="default")
        parser.add_argument("--pretend", action="store_true", dest="fake")
        parser.set_defaults(
            fake_initial=False, plan=False, run_syncdb=False, check_unapplied=False,
            prune=False,
        )

    def handle(self, *args, **options):
        print("the command of the project")
        super().handle(*args, **options)
"""
CUSTOMERS = """
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

class Client(TenantMixin):
    name = models.CharField(max_length=100)
    auto_create_schema = True

class Domain(DomainMixin):
    pass
"""
TENANTS = """
from customers.models import Client, Domain
for schema, host in (("public", "127.0.0.1"), ("acme", "acme.example.org")):
    client = Client.objects.create(schema_name=schema, name=schema)
    Domain.objects.create(domain=host, tenant=client, is_primary=True)
"""
DJANGO_TENANTS = {
    "SHARED_APPS": ["django_tenants", "customers", "shop", *CONTRIB, "migration_route"],
    "TENANT_APPS": ["shop", "django.contrib.auth", "django.contrib.contenttypes"],
    "INSTALLED_APPS": [
        "django_tenants",
        "customers",
        "shop",
        *CONTRIB,
        "migration_route",
    ],
    "TENANT_MODEL": "customers.Client",
    "TENANT_DOMAIN_MODEL": "customers.Domain",
    "MIDDLEWARE": [
        "django_tenants.middleware.main.TenantMainMiddleware",
        *MIDDLEWARE,
    ],
}
HAS_SKU = """
SELECT table_schema FROM information_schema.columns
WHERE table_name = 'shop_item' AND column_name = 'sku' ORDER BY table_schema
"""


@on_each_once
def test_a_command_that_spells_its_options_otherwise(build, pair):
    """Options are passed by their destination, as `call_command` does."""
    site = build(pair, {"0002_sku": column("sku")}, serve=False)
    for folder in ("management", "management/commands"):
        site.project.write(f"shop/{folder}/__init__.py", "")
    site.project.write("shop/management/commands/migrate.py", OWN_COMMAND)
    site.serve()
    ci = site.client("ci")
    run = ci.apply()
    assert run["state"] == "succeeded", ci.events(run["id"])
    assert "the command of the project" in ci.printed(run["id"])
    assert site.has_column("sku")


def site_of_tenants(build, pair):
    """Build a site with a public schema and one of a tenant, and a migration for both."""
    site = build(pair, serve=False)
    project = site.project
    project.write("customers/__init__.py", "")
    project.write("customers/models.py", CUSTOMERS)
    project.write("customers/migrations/__init__.py", "")
    project.set_options(
        Options(
            routers=["django_tenants.routers.TenantSyncRouter"],
            connection={"ENGINE": "django_tenants.postgresql_backend"},
            settings=DJANGO_TENANTS,
        )
    )
    project.manage("makemigrations", "customers")
    project.manage("migrate_schemas", "--shared")
    project.python(TENANTS)
    project.add_migrations({"0002_sku": column("sku")})
    return site


@needs("django-tenants")
@on("postgres-sync")
def test_a_fleet_of_tenants_is_refused_before_a_run_exists(build, pair):
    """The problem names fleets and the command that migrates every schema, which works."""
    site = site_of_tenants(build, pair)
    site.serve()
    ci = site.client("operator")
    assert ci.status()["default"]["pending_migrations"] == ["shop.0002_sku"]
    problem = expect_problem(ci.ask_for_run(ci.plan()), 409, "tenants_not_supported")
    assert "django_tenants" in problem["detail"]
    assert "Fleets are not supported yet" in problem["hint"]
    body = {"database": "default", "fingerprint": ci.plan()["fingerprint"]}
    answer = ci.call("POST", "rehearsals", json=body)
    expect_problem(answer, 409, "tenants_not_supported")
    said = site.project.manage("migration_route", "apply", "--yes", check=False)
    assert (said.returncode, "Fleets" in said.stderr) == (5, True)
    assert ci.get("runs")["runs"] == []
    assert site.person("boss").http.get("/_m/plan/").status_code == 200
    assert site.rows(HAS_SKU) == []
    site.project.manage("migrate")
    assert site.rows(HAS_SKU) == [("acme",), ("public",)]
    assert ci.status()["default"]["pending"] == 0
