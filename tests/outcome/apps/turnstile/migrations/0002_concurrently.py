from django.contrib.postgres.operations import (
    AddConstraintNotValid,
    AddIndexConcurrently,
    RemoveIndexConcurrently,
)
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("turnstile", "0001_initial")]
    operations = [
        AddIndexConcurrently(
            "visit", models.Index(fields=["at"], name="turnstile_visit_at")
        ),
        RemoveIndexConcurrently("visit", "old_index"),
        AddConstraintNotValid(
            "visit",
            models.CheckConstraint(
                condition=~models.Q(page=""), name="turnstile_visit_has_page"
            ),
        ),
    ]
