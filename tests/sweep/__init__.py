"""Fault-injection sweep: what a run reports is true, and nothing is lost or done twice,
whichever process dies at whichever instant.

`python -m tests.sweep` kills the processes of a run and its database session at every
distinguishable instant, and checks the result. At the same instants it cuts the run's host
off, or freezes the run, while another host concludes the run and continues; then the first
host comes back.
"""
