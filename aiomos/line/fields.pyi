"""For other compiled modules only."""
