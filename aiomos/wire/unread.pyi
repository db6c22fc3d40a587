"""For other compiled modules only: the counts of what is not read have no Python face."""
