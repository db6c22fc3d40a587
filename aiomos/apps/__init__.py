"""Middleboxes ready to run, each also an example to read."""
