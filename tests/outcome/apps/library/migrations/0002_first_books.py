from django.db import migrations


def add_books(apps, schema_editor):
    alias = schema_editor.connection.alias
    author = apps.get_model("library", "Author").objects.using(alias).create(name="Ann")
    books = apps.get_model("library", "Book").objects.using(alias)
    for number in range(5):
        books.create(title=f"Volume {number}", author=author)


def remove_books(apps, schema_editor):
    alias = schema_editor.connection.alias
    apps.get_model("library", "Author").objects.using(alias).all().delete()


class Migration(migrations.Migration):
    dependencies = [("library", "0001_initial")]
    operations = [migrations.RunPython(add_books, remove_books)]
