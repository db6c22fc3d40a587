"""For other compiled modules only: what builds frames has no Python face."""
