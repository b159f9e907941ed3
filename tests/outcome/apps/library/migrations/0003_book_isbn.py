from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0002_first_books")]
    operations = [
        migrations.AddField("book", "isbn", models.CharField(max_length=13, null=True)),
    ]
