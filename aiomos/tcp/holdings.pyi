"""For other compiled modules only: holdings have no Python face."""
