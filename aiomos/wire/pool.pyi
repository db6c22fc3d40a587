"""For other compiled modules only: record pools have no Python face."""
