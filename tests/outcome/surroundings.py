"""The apps of the projects whose outcome is compared."""

from __future__ import annotations

from importlib.util import find_spec

from tests.harness.project import Options

ROUTE = "migration_route"
CONTRIB = (
    "django.contrib.admin",
    "django.contrib.admindocs",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.flatpages",
    "django.contrib.messages",
    "django.contrib.redirects",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.staticfiles",
)
APPS = ("people", "library", "loans", "archive", "notes")
CONCURRENT = ("turnstile", "django.contrib.postgres")


def contrib() -> Options:
    """Django's own apps that have migrations on every database."""
    return Options(settings={"INSTALLED_APPS": [*CONTRIB, ROUTE], "SITE_ID": 1})


def apps(vendor: str, *, router: bool = False) -> Options:
    """Apps that use many features of migrations, with a custom user model."""
    extra = CONCURRENT if vendor == "postgres" else ()
    return Options(
        settings={
            "INSTALLED_APPS": [*APPS, *extra, *CONTRIB, ROUTE],
            "AUTH_USER_MODEL": "people.Person",
            "SILENCED_SYSTEM_CHECKS": ["fields.W163"],  # table comments, where unsupported
            "SITE_ID": 1,
        },
        routers=["archive.router.ArchiveRouter"] if router else [],
    )


def folders(vendor: str) -> tuple[str, ...]:
    """Return the folders of `apps/` that such a project needs."""
    return (*APPS, "turnstile") if vendor == "postgres" else APPS


WAGTAIL = (
    "wagtail.api.v2",
    "wagtail.contrib.forms",
    "wagtail.contrib.frontend_cache",
    "wagtail.contrib.redirects",
    "wagtail.contrib.routable_page",
    "wagtail.contrib.search_promotions",
    "wagtail.contrib.settings",
    "wagtail.contrib.simple_translation",
    "wagtail.contrib.sitemaps",
    "wagtail.contrib.styleguide",
    "wagtail.contrib.table_block",
    "wagtail.contrib.typed_table_block",
    "wagtail.embeds",
    "wagtail.sites",
    "wagtail.users",
    "wagtail.snippets",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.search",
    "wagtail.locales",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "modelsearch",
    "taggit",
)


def wagtail(vendor: str) -> Options:
    """Wagtail with all of its apps."""
    installed = [app for app in WAGTAIL if find_spec(app) is not None]
    extra = ["django.contrib.postgres"] if vendor == "postgres" else []
    return Options(
        settings={
            "INSTALLED_APPS": [*installed, *extra, *CONTRIB, ROUTE],
            "SILENCED_SYSTEM_CHECKS": ["models.W036"],  # MariaDB lacks a constraint
            "SITE_ID": 1,
            "WAGTAIL_SITE_NAME": "Outcome",
            "WAGTAILADMIN_BASE_URL": "http://127.0.0.1",
        }
    )
