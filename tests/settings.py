"""Settings of the tests' project; MIGRATION_ROUTE_TEST_DATABASE selects its database."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

VAR = Path(tempfile.gettempdir()) / f"migration-route-tests-{os.getuid()}"
VAR.mkdir(exist_ok=True)

_KIND = os.environ.get("MIGRATION_ROUTE_TEST_DATABASE", "sqlite")
_SERVERS = {
    "postgres": (
        "django.db.backends.postgresql",
        os.environ.get(
            "MIGRATION_ROUTE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432"
        ),
    ),
    "mariadb": (
        "django.db.backends.mysql",
        os.environ.get("MIGRATION_ROUTE_TEST_MARIADB", "mysql://root@127.0.0.1:3306"),
    ),
}

if _KIND == "mariadb":
    import pymysql

    pymysql.version_info = (2, 2, 8, "final", 0)  # Django requires mysqlclient's name
    pymysql.install_as_MySQLdb()


def _database(name: str) -> dict[str, object]:
    # One name for all workers of a test run, which pytest-django suffixes, and a different
    # one for each test run: two may run at once.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    name = f"{name}_{run[:8]}"
    if _KIND == "sqlite":
        file = VAR / f"{name}.sqlite3"
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(file),
            "TEST": {"NAME": str(VAR / f"test_{name}.sqlite3")},
        }
    engine, url = _SERVERS[_KIND]
    found = urlsplit(url)
    return {
        "ENGINE": engine,
        "NAME": f"migration_route_{name}",
        "USER": found.username or "",
        "PASSWORD": found.password or "",
        "HOST": found.hostname or "127.0.0.1",
        "PORT": str(found.port or ""),
    }


DATABASES = {"default": _database("default"), "other": _database("other")}
SECRET_KEY = "only-for-the-tests-of-the-route"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "migration_route",
    "tests.testapp",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

TOKENS = {
    "reader": ["read"],
    "planner": ["plan"],
    "deployer": ["apply", "operate"],
    "reverser": ["apply", "reverse"],
}
"""The secret of each token is its name followed by "-secret"."""

MIGRATION_ROUTE = {
    "TOKENS": [
        {
            "name": name,
            "sha256": hashlib.sha256(f"{name}-secret".encode()).hexdigest(),
            "scopes": scopes,
        }
        for name, scopes in TOKENS.items()
    ],
}
