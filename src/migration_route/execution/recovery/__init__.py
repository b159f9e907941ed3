"""What became of a run whose processes are gone, and what ends the rest of it?"""
