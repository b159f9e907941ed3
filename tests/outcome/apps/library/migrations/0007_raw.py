from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("library", "0006_move_authors")]
    operations = [
        migrations.RemoveField("book", "author"),
        migrations.RunSQL(
            [("INSERT INTO library_writer (name) VALUES (%s)", ["100 % anonymous"])],
            [("DELETE FROM library_writer WHERE name = %s", ["100 % anonymous"])],
        ),
        migrations.RunSQL(
            "CREATE VIEW library_titles AS SELECT id, title FROM library_book;",
            "DROP VIEW library_titles;",
        ),
    ]
