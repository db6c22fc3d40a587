"""For other compiled modules only: rules have no Python face."""
