from django.db import migrations


def fill(apps, schema_editor):
    book = apps.get_model("testapp", "Book")
    book.objects.using(schema_editor.connection.alias).update(pages=1)


class Migration(migrations.Migration):
    dependencies = [("testapp", "0002_book_pages")]

    operations = [migrations.RunPython(fill)]
