"""Prepares the demo's initial state from scratch, with plain Django."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.apps import apps
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BASE = ("shop", "0002_product_sku")
CUSTOMERS, PRODUCTS, ORDERS = 1500, 200, 6000
FIRST_ORDER = datetime(2026, 1, 1, 8, tzinfo=UTC)


def empty_database() -> None:
    """Recreate the demo's own database."""
    if connection.vendor == "sqlite":
        _empty_file()
    else:
        _empty_postgres()


def _empty_file() -> None:
    path = settings.SQLITE["NAME"]
    path.parent.mkdir(exist_ok=True)
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file():
            file.unlink()


def _empty_postgres() -> None:
    import psycopg
    from psycopg import sql

    own = settings.POSTGRES
    name = sql.Identifier(own["NAME"])
    try:
        server = psycopg.connect(
            host=own["HOST"],
            port=own["PORT"],
            user=own["USER"],
            password=own["PASSWORD"],
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )
    except psycopg.OperationalError as error:
        raise SystemExit(
            f"PostgreSQL does not answer at {own['HOST']}:{own['PORT']}: {error}\n"
            "PGHOST, PGPORT, PGUSER and PGPASSWORD select another server."
        ) from error
    with server:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        server.execute(sql.SQL("CREATE DATABASE {}").format(name))


def migrate_to_base() -> None:
    """Apply the framework's and the shop's first migrations; the rest stays pending."""
    for app in ("contenttypes", "auth", "admin", "sessions"):
        call_command("migrate", app, verbosity=0)
    call_command("migrate", *BASE, verbosity=0)


def create_people(password: str) -> None:
    """Create `staff`, who has every permission of this package, and the superuser
    `admin`."""
    # The permissions of an app are usually created by `migrate`; this package's tables are
    # installed by its first run.
    create_permissions(apps.get_app_config("migration_route"), verbosity=0)
    staff = User.objects.create_user("staff", password=password, is_staff=True)
    staff.user_permissions.set(
        Permission.objects.filter(content_type__app_label="migration_route")
    )
    User.objects.create_superuser("admin", password=password)


def fill_shop() -> None:
    """Fill the shop, using the models of the initial state, which match the tables."""
    shop = MigrationExecutor(connection).loader.project_state(BASE).apps
    model = {
        name: shop.get_model("shop", name)
        for name in ("Customer", "Product", "Order", "OrderLine")
    }
    chance = random.Random(1)  # noqa: S311 - the same shop every time
    customers = model["Customer"].objects.bulk_create(
        model["Customer"](name=f"Customer {n}", email=f"customer{n}@example.com")
        for n in range(CUSTOMERS)
    )
    products = model["Product"].objects.bulk_create(
        model["Product"](
            sku=f"SKU-{n:04}",
            name=f"Product {n}",
            price=Decimal(chance.randint(99, 9999)) / 100,
        )
        for n in range(PRODUCTS)
    )
    orders = model["Order"].objects.bulk_create(
        model["Order"](
            customer=chance.choice(customers),
            placed_at=FIRST_ORDER + timedelta(minutes=31 * n),
            abandoned=chance.random() < 0.08,
        )
        for n in range(ORDERS)
    )
    model["OrderLine"].objects.bulk_create(
        (
            model["OrderLine"](
                order=order,
                product=chance.choice(products),
                quantity=chance.randint(1, 5),
            )
            for order in orders
            for _ in range(chance.randint(1, 3))
        ),
        batch_size=2000,
    )
