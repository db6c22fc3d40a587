"""For other compiled modules only: the flow table has no Python face."""
