"""An app that exports spans into a file."""
