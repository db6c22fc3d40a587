"""For other compiled modules only: the TCP monitor has no Python face."""
