"""For other compiled modules only: doubted segments have no Python face."""
