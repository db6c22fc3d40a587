"""For other compiled modules only: retention has no Python face."""
