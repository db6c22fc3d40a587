"""Joins apps, engine, transport and the event loop: attachments, pumps, clock."""
