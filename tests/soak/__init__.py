"""Is every run accounted for, and is nothing left, after many runs and many callers?

`python -m tests.soak` lets clients race on two servers, forwards and backwards.
"""
