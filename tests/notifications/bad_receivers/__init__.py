"""An app whose receivers are as bad as they can be."""
