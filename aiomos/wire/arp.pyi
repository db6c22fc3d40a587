"""For other compiled modules only: ARP messages have no Python face."""
