"""The migrations that the clients race for. All of them are reversible."""

from __future__ import annotations

from tests.harness.migrations import migration

_OFFER = """migrations.CreateModel("Offer", [
            ("id", models.BigAutoField(primary_key=True)),
            ("price", models.IntegerField(default=1)),
            ("item", models.ForeignKey("shop.Item", models.CASCADE)),
        ])"""
# The columns are on a table that is dropped as well: InnoDB keeps each instantly added and
# dropped column in the rows until the table is rebuilt, and after some hundred they do not
# fit any more.
_SKU = 'migrations.AddField("offer", "sku", models.CharField(max_length=20, default=""))'
_COPIES = """\
from django.db import migrations


def forwards(apps, schema_editor):
    items = apps.get_model("shop", "Item").objects.using(schema_editor.connection.alias)
    for item in list(items.order_by("id")):
        items.create(name=f"copy of {item.name}")


def backwards(apps, schema_editor):
    items = apps.get_model("shop", "Item").objects.using(schema_editor.connection.alias)
    items.filter(name__startswith="copy of ").delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0003_sku")]
    operations = [migrations.RunPython(forwards, backwards)]
"""
_INDEX = 'migrations.AddIndex("item", models.Index(fields=["name"], name="by_name"))'

MIGRATIONS = {
    "0002_offer": migration(_OFFER),
    "0003_sku": migration(_SKU, after="0002_offer"),
    "0004_copies": _COPIES,
    "0005_by_name": migration(_INDEX, after="0004_copies", atomic=False),
}
TARGETS = ("0001_initial", *MIGRATIONS)
ROWS = tuple(f"INSERT INTO shop_item (name) VALUES ('thing {n}')" for n in range(3))
