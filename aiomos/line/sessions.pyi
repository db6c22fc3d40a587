"""For other compiled modules only: the session table has no Python face."""
