"""Benchmarks. Every figure is a ratio, or a number of milliseconds beside one.

`python -m benchmarks` prints them; both sides of a ratio are measured alternately, in one
run, on the same machine.
"""
