from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "0003_customer_phone")]
    operations = [
        migrations.AddIndex(
            model_name="order",
            index=models.Index(fields=["placed_at"], name="shop_order_placed_at"),
        ),
    ]
