"""For other compiled modules only: slabs have no Python face."""
