"""Is what is foretold of each schema operation what PostgreSQL really does?

`python -m tests.forecasts` prints the table; the tests hold every line of it.
"""
