"""For other compiled modules only: the Python face of neighbours is in `aiomos.host.host`."""
