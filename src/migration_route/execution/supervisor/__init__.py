"""The supervisor of a run and its parts."""
