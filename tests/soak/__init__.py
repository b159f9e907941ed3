"""Soak test: after many runs by many clients, every run is accounted for and nothing is
left.

`python -m tests.soak` lets clients race on two servers, forwards and backwards.
"""
