"""For other compiled modules only: what writes segments has no Python face."""
