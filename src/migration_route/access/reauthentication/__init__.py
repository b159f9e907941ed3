"""Is the login of a person fresh enough for a change, and what if not?"""
