"""For other compiled modules only: the reader of wire bytes has no Python face."""
