"""For other compiled modules only: retransmissions have no Python face."""
