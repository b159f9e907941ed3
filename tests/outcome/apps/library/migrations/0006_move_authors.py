from django.db import migrations, models


def to_writers(apps, schema_editor):
    alias = schema_editor.connection.alias
    for book in apps.get_model("library", "Book").objects.using(alias).all():
        book.writers.add(book.author_id)


def to_author(apps, schema_editor):
    alias = schema_editor.connection.alias
    for book in apps.get_model("library", "Book").objects.using(alias).all():
        book.author_id = book.writers.using(alias).first().pk
        book.save(update_fields=["author_id"])


class Migration(migrations.Migration):
    dependencies = [("library", "0005_writers")]
    operations = [
        migrations.RunPython(to_writers, to_author),
        migrations.AlterField("book", "writers", models.ManyToManyField("library.Writer")),
    ]
