"""Source texts of migrations for the end-to-end tests."""

from __future__ import annotations

import textwrap

ADD_SKU = 'migrations.AddField("item", "sku", models.CharField(max_length=20, default=""))'

_TEMPLATE = """\
import os
import sys
import time

from django.db import migrations, models

from shop.gate import pass_gate


def forwards(apps, schema_editor):
    Item = apps.get_model("shop", "Item")
    alias = schema_editor.connection.alias
{body}


def backwards(apps, schema_editor):
    pass


class Migration(migrations.Migration):
    atomic = {atomic}
    dependencies = [("shop", "{after}")]
    operations = [
{operations}
    ]
"""
RUN = "migrations.RunPython(forwards, backwards)"


def migration(
    *operations: str,
    after: str = "0001_initial",
    body: str = "pass",
    atomic: bool = True,
) -> str:
    """Return a migration with these operations, where `RUN` stands for the Python in
    `body`."""
    return _TEMPLATE.format(
        body=textwrap.indent(textwrap.dedent(body).strip(), "    "),
        atomic=atomic,
        after=after,
        operations="\n".join(f"        {operation}," for operation in operations),
    )


def running(body: str, *, after: str = "0001_initial") -> str:
    """Return a data migration that runs this Python; it can use `Item` and `alias`."""
    return migration(RUN, after=after, body=body)


def column(name: str, *, after: str = "0001_initial") -> str:
    """Return a migration that adds a column to the items."""
    field = 'models.CharField(max_length=20, default="")'
    return migration(f'migrations.AddField("item", "{name}", {field})', after=after)


WRITE_THREE = """\
for number in range(3):
    Item.objects.using(alias).create(name=f"written {number}")
"""
WRITTEN = ["written 0", "written 1", "written 2"]


_TABLE = """from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "{after}")]
    operations = [
        migrations.CreateModel("Thing{number}", [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=20, db_index=True)),
            ("item", models.ForeignKey("shop.Item", models.CASCADE)),
        ]),
        migrations.AddField("Thing{number}", "size", models.IntegerField(default=1)),
    ]
"""


def chain_of_tables(count: int) -> dict[str, str]:
    """Return that many migrations after the first, each of which creates a table."""
    files, after = {}, "0001_initial"
    for number in range(2, count + 2):
        name = f"{number:04}_thing"
        files[name] = _TABLE.format(after=after, number=number)
        after = name
    return files


_MODEL_OPERATIONS = """\
migrations.CreateModel("Many{number}", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.CharField(max_length=20)),
    ("item", models.ForeignKey("shop.Item", models.CASCADE, related_name="+")),
])
migrations.AddField("Many{number}", "first", models.IntegerField(null=True))
migrations.AddField("Many{number}", "second", models.IntegerField(null=True))
migrations.AddField("Many{number}", "to", models.ForeignKey(
    "shop.Many{earlier}", models.CASCADE, null=True, related_name="+"))
migrations.AlterField("Many{number}", "name", models.CharField(max_length=40))
migrations.RenameField("Many{number}", "second", "third")
"""
_OPERATIONS_PER_MODEL = 6


def many_operations(count: int) -> dict[str, str]:
    """Return one migration with about that many operations, on related models."""
    texts = [
        _MODEL_OPERATIONS.format(number=number, earlier=number // 2)
        for number in range(count // _OPERATIONS_PER_MODEL)
    ]
    operations = "".join(texts).replace("\nmigrations.", ",\nmigrations.").rstrip()
    return {"0002_many": migration(*[operations])}
