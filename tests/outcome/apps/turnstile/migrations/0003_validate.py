from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("turnstile", "0002_concurrently")]
    operations = [ValidateConstraint("visit", "turnstile_visit_has_page")]
