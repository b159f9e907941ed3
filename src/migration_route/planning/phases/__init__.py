"""The side of a deploy on which each step belongs."""
