"""Compares the forecast of each schema operation with what PostgreSQL does.

`python -m tests.forecasts` prints the table; the tests check every line of it.
"""
