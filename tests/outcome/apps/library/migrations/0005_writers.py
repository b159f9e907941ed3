from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("library", "0004_isbn_required"),
    ]
    operations = [
        migrations.RenameModel("Author", "Writer"),
        migrations.AlterModelOptions(
            "writer", {"permissions": [("praise_writer", "Can praise a writer")]}
        ),
        migrations.RenameIndex("book", old_name="isbn_index", new_name="library_book_isbn"),
        migrations.AddField(
            "book", "writers", models.ManyToManyField("library.Writer", related_name="+")
        ),
        migrations.AddField(
            "book",
            "keeper",
            models.ForeignKey(
                settings.AUTH_USER_MODEL,
                models.SET_NULL,
                null=True,
                related_name="kept",
            ),
        ),
        migrations.AlterField(
            "book",
            "author",
            models.ForeignKey("library.Writer", models.CASCADE, null=True),
        ),
    ]
