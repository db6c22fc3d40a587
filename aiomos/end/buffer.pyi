"""For other compiled modules only: no Python face."""
