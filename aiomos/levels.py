"""How much of TCP is followed for a flow."""

from enum import IntEnum


class Level(IntEnum):
    """How much a connection follows of its flow; each level includes those below.

    A flow runs, per half, at the highest level that any of its apps needs at the moment.
    """

    STATE = 1
    """TCP states of both ends, start, end and its reason."""

    BYTES = 2
    """Adds sequence numbers: bytes, retransmissions, loss, round-trip time. No payload is kept."""

    STREAM = 3
    """Adds the bytes of both halves, in order and once."""
