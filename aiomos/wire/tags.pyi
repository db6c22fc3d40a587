"""For other compiled modules only: the readers of tags have no Python face."""
