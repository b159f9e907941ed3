"""How fast is the route? Every figure is a ratio, or a count of milliseconds beside one.

`python -m benchmarks` prints them; both sides of a ratio are measured in turns, in one
run, on the machine as it is.
"""
