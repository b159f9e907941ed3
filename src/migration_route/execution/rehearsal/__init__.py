"""What does a plan do to a copy? It is carried out there, by the same worker."""
