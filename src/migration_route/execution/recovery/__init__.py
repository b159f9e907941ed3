"""Recovery of runs whose processes are gone."""
