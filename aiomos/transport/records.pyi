"""For other compiled modules only: the record parser has no Python face."""
