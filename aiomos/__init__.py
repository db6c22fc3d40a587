"""aiomos."""
