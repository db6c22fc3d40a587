"""For other compiled modules: the flow table has no Python face, but for the names of what its records hold."""

from enum import IntEnum

FACT_NAMES: tuple[str, ...]
"""By the bits of `Fact`."""
REASON_NAMES: tuple[str, ...]
"""By `Reason`; the first is of a flow that has not ended."""

class Fact(IntEnum):
    SYN_SENT = 1
    SYN_ACKED = 2
    SYN_RECEIVED = 4
    FIN_SENT = 8
    FIN_ACKED = 16
    FIN_RECEIVED = 32
    PASSIVE_CLOSE = 64
    RESET = 128

class Reason(IntEnum):
    OPEN = 0
    REASON_FIN = 1
    REASON_RST = 2
    REASON_TIMEOUT = 3
    REASON_EVICTED = 4
    REASON_END_OF_CAPTURE = 5
    REASON_DROPPED = 6
