"""Text output of both command lines. No Django here."""
