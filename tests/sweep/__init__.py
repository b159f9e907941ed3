"""Is what a run says true, and is nothing lost or doubled, whatever dies when?

`python -m tests.sweep` kills the processes of a run and its session in the database at
every instant that can be told from another, and looks at what becomes of it. At the same
instants it cuts the run's host off, or freezes the run, while another host concludes the
run and continues; then the first host comes back.
"""
