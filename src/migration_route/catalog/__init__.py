"""Is what an operation does in the database? The live catalog, held against the states
of the project before and after it."""
