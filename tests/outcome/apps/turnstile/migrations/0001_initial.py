from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Visit",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("page", models.CharField(max_length=100)),
                ("at", models.DateTimeField()),
            ],
        ),
        migrations.AddIndex("visit", models.Index(fields=["page"], name="old_index")),
    ]
