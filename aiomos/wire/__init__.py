"""Bytes of the wire: reading, building and rewriting packets, sequence numbers, checksums, fragments, hashes."""
