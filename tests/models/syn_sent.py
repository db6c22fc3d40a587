"""An end that opens a connection: RFC 9293 section 3.10.7.3 and what follows, in plain Python.

It takes segments in the order in which they arrive, and says what it has read and whether it was reset. Of
timestamps it knows what RFC 7323 section 3.2 asks of an echo: that it was sent.
"""

from __future__ import annotations

from typing import NamedTuple

MODULUS = 1 << 32


class Arrival(NamedTuple):
    """A segment to the end."""

    flags: str
    seq: int
    ack: int
    payload: bytes = b""
    echo: int | None = None
    """TSecr, None without timestamps."""


class Opener:
    """An end in SYN-SENT, later ESTABLISHED, that sends one SYN.

    Args:
        iss: Number of its SYN.
        stamp: TSval of its SYN, None without timestamps.
    """

    def __init__(self, iss: int, stamp: int | None = None) -> None:
        self.iss, self.stamp = iss, stamp
        self.state = "SYN_SENT"
        self.rcv_nxt = 0
        self.read = b""

    def take(self, segment: Arrival) -> str | None:
        """Take a segment; returns the flags of the answer in SYN-SENT, if there is one."""
        return self.while_opening(segment) if self.state == "SYN_SENT" else self.while_established(segment)

    def while_opening(self, segment: Arrival) -> str | None:
        acks = "A" in segment.flags
        acceptable = (segment.ack - self.iss) % MODULUS == 1 and (
            not segment.echo or self.stamp is None or segment.echo == self.stamp
        )
        if acks and not acceptable:
            return None if "R" in segment.flags else "R"
        if "R" in segment.flags:
            if acks:
                self.state = "CLOSED"
        elif "S" in segment.flags and acks:
            self.rcv_nxt = (segment.seq + 1) % MODULUS
            self.state = "ESTABLISHED"
            return "A"
        return None

    def while_established(self, segment: Arrival) -> str | None:
        """Take data that is next in order; whatever else comes is not the model's."""
        if segment.seq == self.rcv_nxt and "S" not in segment.flags:
            self.read += segment.payload
            self.rcv_nxt = (self.rcv_nxt + len(segment.payload)) % MODULUS
        return None
