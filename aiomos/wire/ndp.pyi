"""For other compiled modules only: messages of neighbour discovery have no Python face."""
