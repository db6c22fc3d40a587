"""For other compiled modules only: rewriting has no Python face."""
