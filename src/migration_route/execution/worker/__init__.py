"""The worker, which carries out one plan, and its parts."""
