"""For other compiled modules only: what builds segments has no Python face."""
