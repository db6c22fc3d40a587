"""For other compiled modules only: routes have no Python face of their own."""
