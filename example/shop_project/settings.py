"""An ordinary Django project; the lines that add django-migration-route are marked.

What differs between starts comes from the environment, which `demo.py` fills:
`DEMO_DATABASE` (sqlite or postgres) and `DEMO_TOKEN_SHA256`. `DEMO_REAUTHENTICATION` is the
maximum age of a login that makes a change. `DEMO_VAR` is the folder of the SQLite file,
`DEMO_APPROVALS` a policy as JSON: `{}` requires one approval of everything; `DEMO_WINDOWS`
are the weekly windows as JSON.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import django

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("DEMO_VAR", BASE_DIR / "var"))

SECRET_KEY = "for-show-only-and-on-this-machine-alone"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
ROOT_URLCONF = "shop_project.urls"
WSGI_APPLICATION = "shop_project.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "migration_route",  # adds django-migration-route; the other line is in urls.py
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

if django.VERSION >= (6, 0):
    # The strictest possible policy: this package's pages need nothing more.
    MIDDLEWARE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")
    SECURE_CSP = {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": VAR / "demo.sqlite3",
    "OPTIONS": {
        "init_command": "PRAGMA journal_mode = WAL",
        "transaction_mode": "IMMEDIATE",
    },
}
POSTGRES = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": os.environ.get("DEMO_PGDATABASE", "migration_route_demo"),
    "HOST": os.environ.get("PGHOST", "127.0.0.1"),
    "PORT": os.environ.get("PGPORT", "5432"),
    "USER": os.environ.get("PGUSER", "postgres"),
    "PASSWORD": os.environ.get("PGPASSWORD", ""),
}
DATABASES = {
    "default": POSTGRES if os.environ.get("DEMO_DATABASE") == "postgres" else SQLITE
}

MIGRATION_ROUTE: dict[str, object] = {}
if limit := os.environ.get("DEMO_REAUTHENTICATION"):
    MIGRATION_ROUTE["REAUTHENTICATION"] = limit
if sha256 := os.environ.get("DEMO_TOKEN_SHA256"):
    MIGRATION_ROUTE["TOKENS"] = [
        {
            "name": "demo",
            "sha256": sha256,
            "scopes": ["read", "plan", "rehearse", "apply", "reverse", "operate"],
        }
    ]
if approvals := os.environ.get("DEMO_APPROVALS"):
    MIGRATION_ROUTE["APPROVALS"] = json.loads(approvals)
if windows := os.environ.get("DEMO_WINDOWS"):
    MIGRATION_ROUTE["WINDOWS"] = json.loads(windows)
