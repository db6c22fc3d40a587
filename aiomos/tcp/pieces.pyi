"""For other compiled modules only: pieces have no Python face."""
