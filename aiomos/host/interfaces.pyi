"""For other compiled modules only: own addresses have no Python face of their own."""
