"""For other compiled modules only: edits have no Python face."""
