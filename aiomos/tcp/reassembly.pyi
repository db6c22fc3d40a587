"""For other compiled modules only: reassembly has no Python face."""
