"""An ordinary project; a test overrides its settings in `options.json`."""

from __future__ import annotations

import json
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
OPTIONS = json.loads((BASE_DIR / "options.json").read_text())

if any(entry["ENGINE"].endswith("mysql") for entry in OPTIONS["databases"].values()):
    import pymysql

    pymysql.version_info = (2, 2, 8, "final", 0)
    pymysql.install_as_MySQLdb()

SECRET_KEY = "walk-secret-key-that-must-never-be-seen"
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
STATIC_URL = "static/"
ROOT_URLCONF = "market.urls"
WSGI_APPLICATION = "market.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/pid/"

DATABASES = OPTIONS["databases"]
DATABASE_ROUTERS = OPTIONS["routers"]

CONTRIB_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
INSTALLED_APPS = ["shop"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
context_processors = ["django.template.context_processors.request"]

if OPTIONS["contrib"]:
    INSTALLED_APPS += CONTRIB_APPS
    MIDDLEWARE += [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ]
    context_processors += [
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]

if OPTIONS["login_required"]:
    MIDDLEWARE.append("django.contrib.auth.middleware.LoginRequiredMiddleware")

if OPTIONS["custom_user"]:
    INSTALLED_APPS.append("accounts")
    AUTH_USER_MODEL = "accounts.User"

if OPTIONS["adopted"]:
    INSTALLED_APPS.append("migration_route")
    MIGRATION_ROUTE = OPTIONS["migration_route"]
    if wait := os.environ.get("MAX_REQUEST_WAIT"):
        MIGRATION_ROUTE.setdefault("MAX_REQUEST_WAIT", wait)

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": context_processors},
    }
]

globals().update(OPTIONS["settings"])
