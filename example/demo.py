"""Serve an example shop with pending migrations on this machine.


    python example/demo.py [--port 8000] [--database sqlite|postgres]

It starts from scratch every time. On PostgreSQL it creates its own database,
`migration_route_demo`, at 127.0.0.1:5432; set PGHOST, PGPORT, PGUSER, PGPASSWORD and
DEMO_PGDATABASE to change that. DEMO_PASSWORD and DEMO_TOKEN set the secrets.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path


def main() -> None:
    """Prepare the demo, print how to use it, and serve it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    options = parser.parse_args()

    from migration_route.core.credentials import digest_of, new_secret

    token = os.environ.get("DEMO_TOKEN") or new_secret()
    password = os.environ.get("DEMO_PASSWORD") or secrets.token_urlsafe(9)
    os.environ["DEMO_DATABASE"] = options.database
    os.environ["DEMO_TOKEN_SHA256"] = digest_of(token)
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop_project.settings"
    os.environ.pop("DEMO_TOKEN", None)
    sys.path.insert(0, str(Path(__file__).resolve().parent))

    import django

    django.setup()
    prepare(password)
    serve(options.port, password=password, token=token, database=options.database)


def prepare(password: str) -> None:
    """Bring the database to the state before the new code's migrations."""
    import preparation
    from django.db import connections

    print("Preparing the shop …", flush=True)
    preparation.empty_database()
    preparation.migrate_to_base()
    preparation.create_people(password)
    preparation.fill_shop()
    connections.close_all()


def serve(port: int, *, password: str, token: str, database: str) -> None:
    import serving
    from shop_project.wsgi import application

    site = f"http://{serving.HOST}:{port}/migrations/"
    words = f"""
  django-migration-route: an example shop on {database}. It has pending migrations.

  Page         {site}
  Staff login  staff / {password}
  Superuser    admin / {password}
  API token    {token}

  Try          curl -H 'Authorization: Bearer {token}' {site}api/v1/plan

  Press Ctrl-C to stop. Each start resets the shop.
"""
    serving.serve(application, port, announce=lambda: print(words, flush=True))


if __name__ == "__main__":
    main()
