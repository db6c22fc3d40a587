"""For other compiled modules only: what waits has no Python face."""
