"""For other compiled modules only: copies have no Python face."""
