from __future__ import annotations

import time
from decimal import Decimal

from django.db import migrations, models

BATCH = 500
# Makes the run long enough to watch: a demo has fewer orders than a shop.
PAUSE = 0.4


def fill_totals(apps, schema_editor):
    """Store the total of each order."""
    Order = apps.get_model("shop", "Order")
    orders = Order.objects.using(schema_editor.connection.alias).order_by("pk")
    count = orders.count()
    for start in range(0, count, BATCH):
        batch = list(orders.prefetch_related("lines__product")[start : start + BATCH])
        for order in batch:
            lines = order.lines.all()
            prices = (line.quantity * line.product.price for line in lines)
            order.total = sum(prices, Decimal(0))
        orders.bulk_update(batch, ["total"])
        print(f"{start + len(batch)} of {count} orders have a total")
        time.sleep(PAUSE)


class Migration(migrations.Migration):
    dependencies = [("shop", "0004_order_placed_at_index")]
    operations = [
        migrations.AddField(
            model_name="order",
            name="total",
            field=models.DecimalField(decimal_places=2, max_digits=10, null=True),
        ),
        migrations.RunPython(fill_totals, migrations.RunPython.noop),
    ]
