"""What Python holds: flows and packets as apps see them, streams, connections, occurrences."""
