"""For other compiled modules only: in Python, addresses are their text."""
