"""The door from afar: `migration-route VERB --url …`, without Django."""
