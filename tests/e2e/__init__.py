"""Acceptance scenarios, run from outside against real servers."""
