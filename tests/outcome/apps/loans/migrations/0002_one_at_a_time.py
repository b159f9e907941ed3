from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("loans", "0001_initial"), ("library", "0006_move_authors")]
    operations = [
        migrations.AlterField("loan", "until", models.DateField()),
        migrations.AddConstraint(
            "loan",
            models.UniqueConstraint(fields=["book"], name="loans_loan_one_at_a_time"),
        ),
    ]
