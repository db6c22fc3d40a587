"""One core's flows: a frame's way through the house, and who is told of what."""
