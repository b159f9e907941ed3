"""Tests that a rehearsal never uses the original, whatever the settings call it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.e2e.test_rehearsal import copies, state_of
from tests.harness.migrations import ADD_SKU, RUN, migration
from tests.harness.pairs import EVERY_PAIR
from tests.harness.project import Options
from tests.harness.vendors import SqliteDatabase

PAIRS = {str(pair): pair for pair in EVERY_PAIR}
SQLITE, POSTGRES, MARIADB = (
    PAIRS[name] for name in ("sqlite-sync", "postgres-sync", "mariadb-sync")
)
EMPTIES = migration(
    ADD_SKU,
    RUN,
    body='print(f"the copy has {Item.objects.using(alias).count()} items")\n'
    "Item.objects.using(alias).all().delete()",
)


def on_mariadb(site, folder, **words):
    """Return the entry of the site's database without a name, and with these changes."""
    del folder
    options = words.pop("options", {})
    return {**site.database.settings(), "NAME": "", "OPTIONS": options, **words}


def by_option_file(site, folder, *, database=True):
    """Configure the server and the database in an option file."""
    words = site.database.settings()
    lines = [
        "[client]",
        f"host={words['HOST']}",
        f"port={words['PORT']}",
        f"user={words['USER']}",
        f"password={words['PASSWORD']}",
        *([f"database={words['NAME']}"] if database else []),
    ]
    path = folder / "my options.cnf"
    path.write_text("\n".join(lines) + "\n")
    empty = dict.fromkeys(("NAME", "USER", "PASSWORD", "HOST", "PORT"), "")
    return {
        "ENGINE": words["ENGINE"],
        **empty,
        **({} if database else {"NAME": words["NAME"]}),
        "OPTIONS": {"read_default_file": str(path)},
    }


def by_service(site, folder, *, named):
    """Configure the server and the database in a service file."""
    words = site.database.settings()
    path = folder / "services.conf"
    path.write_text(
        f"[shop]\nhost={words['HOST']}\nport={words['PORT']}\nuser={words['USER']}\n"
        f"password=no-secret\ndbname={words['NAME'] if not named else 'postgres'}\n"
    )
    site.project.environment["PGSERVICEFILE"] = str(path)
    name = words["NAME"] if named else ""
    return {"ENGINE": words["ENGINE"], "NAME": name, "OPTIONS": {"service": "shop"}}


def by_dbname(site, folder):
    """Set NAME to another database than the one that is used."""
    del folder
    words = site.database.settings()
    return {**words, "NAME": "postgres", "OPTIONS": {"dbname": words["NAME"]}}


def by_file_option(site, folder):
    """Set NAME to another file than the one that is used."""
    words = site.database.settings()
    other = str(folder / "other.sqlite3")
    return {**words, "NAME": other, "OPTIONS": {"database": words["NAME"]}}


def by_uri(site, folder):
    """Configure the file by a URI with an escaped space."""
    place = folder / "a folder"
    place.mkdir()
    path = site.database.path.rename(place / "shop #1.sqlite3")
    site.project.databases["default"] = SqliteDatabase(path=path)
    return {**site.database.settings(), "NAME": f"file:{quote(str(path))}?mode=rwc"}


def named(site):
    """Return the name of the site's database."""
    return site.database.settings()["NAME"]


WAYS = [
    (MARIADB, "database", lambda s, f: on_mariadb(s, f, options={"database": named(s)})),
    (MARIADB, "db", lambda s, f: on_mariadb(s, f, options={"db": named(s)})),
    (
        MARIADB,
        "database-and-name",
        lambda s, f: on_mariadb(s, f, NAME=named(s), options={"database": named(s)}),
    ),
    (
        MARIADB,
        "database-and-another-name",
        lambda s, f: on_mariadb(s, f, NAME="mysql", options={"database": named(s)}),
    ),
    (MARIADB, "option-file", by_option_file),
    (
        MARIADB,
        "option-file-and-name",
        lambda s, f: by_option_file(s, f, database=False),
    ),
    (POSTGRES, "dbname", by_dbname),
    (POSTGRES, "service", lambda s, f: by_service(s, f, named=False)),
    (POSTGRES, "service-and-name", lambda s, f: by_service(s, f, named=True)),
    (SQLITE, "database", by_file_option),
    (SQLITE, "uri", by_uri),
]


def lead(site, entry, **route):
    """Set the entry of the alias `default`."""
    options = Options(settings={"DATABASES": {"default": entry}}, migration_route=route)
    site.project.set_options(options)


def begin(site):
    """Install the ledger, and write a migration that empties the table."""
    site.execute("INSERT INTO shop_item (name) VALUES ('apple'), ('pear')")
    site.project.manage("migration_route", "apply", "--yes")
    site.project.add_migrations({"0002_empty": EMPTIES})
    return state_of(site)


def rehearse(site, *words):
    """Rehearse the plan, and return the rehearsal as JSON."""
    answer = site.project.manage(
        "migration_route", "rehearse", "shop", "--json", *words, check=False
    )
    lines = answer.stdout.strip()
    assert lines, answer.stderr
    found = json.loads(lines)
    assert "state" in found, found
    return found


@pytest.mark.parametrize(
    ("pair", "lead_by"),
    [(pair, by) for pair, _, by in WAYS],
    ids=[f"{pair.vendor}-{name}" for pair, name, _ in WAYS],
)
def test_the_copy_is_another_database_and_a_true_one(build, tmp_path, pair, lead_by):
    """Rows, recorder and ledger are unchanged; the plan finds the rows of the original."""
    site = build(pair, serve=False)
    lead(site, lead_by(site, tmp_path))
    before = begin(site)
    entries = site.rows("SELECT sequence, digest FROM migration_route_entry ORDER BY 1")
    assert entries
    for words, items in (((), 0), (("--data",), 2)):
        found = rehearse(site, *words, "--round-trip")
        assert found["state"] == "succeeded", found["error"]
        assert f"the copy has {items} items" in json.dumps(found["report"])
        assert found["report"]["differences"] == []
        assert state_of(site) == before
        assert copies(site) == set()
    now = site.rows("SELECT sequence, digest FROM migration_route_entry ORDER BY 1")
    assert now[: len(entries)] == entries
    assert site.project.manage("migration_route", "ledger", "verify").returncode == 0


PAST_DJANGO = {
    MARIADB: "import pymysql\npymysql.connect(read_default_file={file!r})",
    POSTGRES: "import psycopg\npsycopg.connect('service=shop')",
}


@pytest.mark.parametrize("pair", PAST_DJANGO, ids=lambda pair: pair.vendor)
def test_the_original_is_not_reached_past_django_either(build, tmp_path, pair):
    """Through a file that names it: the server identifies the database of such a
    connection."""
    site = build(pair, serve=False)
    is_mariadb = pair is MARIADB
    entry = (
        by_option_file(site, tmp_path)
        if is_mariadb
        else by_service(site, tmp_path, named=False)
    )
    lead(site, entry)
    begin(site)
    body = PAST_DJANGO[pair].format(file=entry["OPTIONS"].get("read_default_file"))
    site.project.add_migrations({"0002_empty": migration(RUN, body=body)})
    found = rehearse(site)
    assert found["state"] == "failed"
    assert found["error"]["type"] == "SandboxViolation"
    assert named_in_report(found, site.database.name)
    assert copies(site) == set()


def named_in_report(found, name):
    """Return whether the report contains an attempt to reach the original."""
    return name in json.dumps(found["report"]["limits"])
