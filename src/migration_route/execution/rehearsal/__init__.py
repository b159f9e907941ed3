"""Rehearsals: the same worker carries out a plan on a copy, or in place."""
