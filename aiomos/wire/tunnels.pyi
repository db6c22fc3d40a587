"""For other compiled modules only: the readers of tunnels have no Python face."""
