from __future__ import annotations

from django.db import migrations


def remove_abandoned(apps, schema_editor):
    """Delete the orders that were never paid, in batches that each hold locks briefly."""
    Order = apps.get_model("shop", "Order")
    orders = Order.objects.using(schema_editor.connection.alias)
    removed = 0
    while keys := orders.filter(abandoned=True).values_list("pk", flat=True)[:100]:
        orders.filter(pk__in=list(keys)).delete()
        removed += len(keys)
        print(f"{removed} abandoned orders removed")


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0005_order_total")]
    operations = [
        # Irreversible: the deleted rows cannot be restored.
        migrations.RunPython(remove_abandoned),
    ]
