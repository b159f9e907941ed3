from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("library", "0001_squashed_0003_book_isbn"),
    ]
    # `run_before` inserts this migration into library's order without library's knowledge.
    run_before = [("library", "0005_writers")]
    operations = [
        migrations.CreateModel(
            "Loan",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("book", models.ForeignKey("library.Book", models.CASCADE)),
                (
                    "person",
                    models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE),
                ),
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "ALTER TABLE loans_loan ADD COLUMN until date",
                    "ALTER TABLE loans_loan DROP COLUMN until",
                )
            ],
            state_operations=[
                migrations.AddField("loan", "until", models.DateField(null=True))
            ],
        ),
    ]
