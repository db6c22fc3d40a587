"""For other compiled modules only: the fragmenter has no Python face."""
