"""Harness of the end-to-end tests: databases, temporary projects, real servers and
clients."""
