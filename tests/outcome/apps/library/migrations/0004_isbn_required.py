from django.db import migrations, models


def fill(apps, schema_editor):
    alias = schema_editor.connection.alias
    for book in apps.get_model("library", "Book").objects.using(alias).all():
        book.isbn = f"978{book.pk:010}"
        book.save(update_fields=["isbn"])


class Migration(migrations.Migration):
    # One statement at a time: PostgreSQL does not alter a table with pending trigger
    # events.
    atomic = False
    dependencies = [("library", "0003_book_isbn")]
    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop, atomic=True),
        migrations.AlterField(
            "book",
            "isbn",
            models.CharField(max_length=13, db_comment="Without hyphens"),
        ),
        migrations.AddField("book", "pages", models.IntegerField(db_default=1)),
        migrations.AddField(
            "book",
            "leaves",
            models.GeneratedField(
                expression=models.F("pages") / 2,
                output_field=models.IntegerField(),
                db_persist=True,
            ),
        ),
        migrations.AlterUniqueTogether("book", {("title", "isbn")}),
        migrations.AddIndex("book", models.Index(fields=["isbn"], name="isbn_index")),
        migrations.AddConstraint(
            "book",
            models.CheckConstraint(
                condition=models.Q(pages__gt=0), name="library_book_has_pages"
            ),
        ),
    ]
