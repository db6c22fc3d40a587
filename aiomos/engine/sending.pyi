"""For other compiled modules only: `Engine.flush` sends."""
