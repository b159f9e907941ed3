"""An app with misbehaving signal receivers."""
