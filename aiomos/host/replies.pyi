"""For other compiled modules only: replies have no Python face."""
