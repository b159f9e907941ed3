from django.db import migrations, models


def first_box(apps, schema_editor):
    alias = schema_editor.connection.alias
    if alias == "other":
        apps.get_model("archive", "Box").objects.using(alias).create(label="first")


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Box",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("label", models.CharField(max_length=50)),
            ],
        ),
        migrations.RunPython(first_box, migrations.RunPython.noop),
    ]
