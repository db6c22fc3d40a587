"""For other compiled modules only: what writes TCP headers has no Python face."""
