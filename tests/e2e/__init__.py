"""The acceptance scenarios of the route, walked from outside against real servers."""
