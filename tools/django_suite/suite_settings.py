"""Settings for Django's own tests; `tools/run-django-suite` selects the databases."""

from __future__ import annotations

import json
import os

DATABASES = json.loads(os.environ["DJANGO_SUITE_DATABASES"])
SECRET_KEY = "django_tests_secret_key"  # noqa: S105 - as in Django's own test settings
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
TEST_RUNNER = "suite_runner.TellingRunner"

if any(entry["ENGINE"].endswith("mysql") for entry in DATABASES.values()):
    import pymysql

    pymysql.version_info = (2, 2, 8, "final", 0)  # Django requires mysqlclient's name
    pymysql.install_as_MySQLdb()
