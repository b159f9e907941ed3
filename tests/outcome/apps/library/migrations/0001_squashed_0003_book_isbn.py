from django.db import migrations, models


def add_books(apps, schema_editor):
    alias = schema_editor.connection.alias
    author = apps.get_model("library", "Author").objects.using(alias).create(name="Ann")
    books = apps.get_model("library", "Book").objects.using(alias)
    for number in range(5):
        books.create(title=f"Volume {number}", author=author)


class Migration(migrations.Migration):
    initial = True
    replaces = [
        ("library", "0001_initial"),
        ("library", "0002_first_books"),
        ("library", "0003_book_isbn"),
    ]
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Author",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=100)),
            ],
        ),
        migrations.CreateModel(
            "Book",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("title", models.CharField(max_length=200)),
                ("author", models.ForeignKey("library.Author", models.CASCADE)),
                ("isbn", models.CharField(max_length=13, null=True)),
            ],
        ),
        # The tables are dropped in the same transaction: there is nothing to reverse.
        migrations.RunPython(add_books, migrations.RunPython.noop),
    ]
