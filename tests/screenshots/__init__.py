"""`python -m tests.screenshots`: pictures of the staff pages in every state."""
