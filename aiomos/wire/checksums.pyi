"""For other compiled modules only: checksums have no Python face."""
