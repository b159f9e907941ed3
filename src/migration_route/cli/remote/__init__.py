"""The remote client, `migration-route VERB --url …`; it does not need Django."""
