"""Tests that a run leaves the same outcome as Django's own `migrate`."""
