"""How do the answers of the route read on a terminal, here and from afar? No Django."""
