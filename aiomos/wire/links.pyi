"""For other compiled modules only: the readers of link types have no Python face."""
