"""Who watches over a run? The supervisor, and what it goes by."""
