"""The command-line interfaces: `manage.py migration_route` and `migration-route`."""
