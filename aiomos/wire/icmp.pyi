"""For other compiled modules only: ICMP messages have no Python face."""
