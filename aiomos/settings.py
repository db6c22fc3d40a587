"""Settings of an engine: how much it may hold, how long it waits, how it reads frames.

Times are float seconds on the engine's clock: packet time offline, wall time live. Sizes are bytes. The text
of each attribute below is also what the command line shows.
"""

from collections.abc import Iterable
from typing import Literal

import attrs

from aiomos.options import build, must

KIB = 1 << 10
MIB = 1 << 20
# Far beyond any use, and far below what 64 bits of bytes or nanoseconds hold, so that sums stay exact.
LARGEST = 1 << 62
LONGEST = 365 * 86_400


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LONGEST


_count = must("a whole number, at least 1", lambda value: type(value) is int and 1 <= value <= LARGEST)
_seconds = must(f"seconds, above 0 and at most {LONGEST}", lambda value: _is_seconds(value) and value > 0)
_seconds_or_0 = must(f"seconds, from 0 to {LONGEST}", _is_seconds)


@attrs.frozen(kw_only=True)
class Budgets:
    """What the engine may hold; at a budget it evicts or gives up in a stated order, and counts it.

    Where two budgets bound one thing, the smaller rules.

    Attributes:
        flows: Flows tracked at once; beyond it a closed one that only waits for stragglers goes first, else the
            oldest half-open one is evicted, else the one idle longest.
        half_open: Flows tracked at once whose handshake is not complete; beyond it the oldest is evicted.
        held_bytes: Memory of what is held behind holes, over all flows; beyond it the half that has held something
            for longest goes on without what is missing.
        held_bytes_half: The same in one half; beyond it the oldest hole becomes a gap.
        kept_bytes: Delivered bytes kept to be looked back at, over all flows; beyond it the half goes
            without that has kept bytes for longest.
        kept_bytes_half: Delivered bytes kept of one half; beyond it the oldest go.
        stream_bytes: Unread in-order bytes in one half at which a slow handler holds the reader back.
        stream_bytes_total: Unread in-order bytes over all flows at which the reader is held back.
        fragment_bytes: Bytes of IP fragments held for reassembly; beyond it the oldest datagram is dropped.
        sessions: Sessions that apps may have at once, in line; beyond it the oldest half-open one makes way.
        edited_bytes: Replaced bytes kept until they are acknowledged, over all flows; beyond it none are replaced.
        edited_bytes_half: Replaced bytes kept of one half.
    """

    flows: int = attrs.field(default=1 << 20, validator=_count)
    half_open: int = attrs.field(default=1 << 18, validator=_count)
    held_bytes: int = attrs.field(default=256 * MIB, validator=_count)
    held_bytes_half: int = attrs.field(default=4 * MIB, validator=_count)
    kept_bytes: int = attrs.field(default=16 * MIB, validator=_count)
    kept_bytes_half: int = attrs.field(default=16 * KIB, validator=_count)
    stream_bytes: int = attrs.field(default=1 * MIB, validator=_count)
    stream_bytes_total: int = attrs.field(default=1024 * MIB, validator=_count)
    fragment_bytes: int = attrs.field(default=4 * MIB, validator=_count)
    sessions: int = attrs.field(default=1 << 18, validator=_count)
    edited_bytes: int = attrs.field(default=64 * MIB, validator=_count)
    edited_bytes_half: int = attrs.field(default=1 * MIB, validator=_count)


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long the engine waits, in seconds; a flow's own time-out counts from its last packet.

    Flow time-outs fire at the first step of the timer wheel, 1 second, at or after they are due.

    Attributes:
        half_open: Handshake not complete; Linux goes on sending SYNs for 127 seconds.
        established: Both ends established; RFC 5382 REQ-5 asks for no less than 2 hours 4 minutes.
        closing: A FIN was seen, and not yet both of them with their acknowledgements.
        time_wait: Both FINs acknowledged; late retransmissions still find their flow. 0 forgets it at once.
        reset: A valid RST was seen; packets on their way still find their flow. 0 forgets it at once.
        gap_hold: From the receiver's acknowledgement of missing bytes until they are a gap; a mirror port
            may deliver the acknowledgement before the data.
        gap_age: Until missing bytes that nobody acknowledged are a gap.
    """

    half_open: float = attrs.field(default=130.0, validator=_seconds)
    established: float = attrs.field(default=7440.0, validator=_seconds)
    closing: float = attrs.field(default=240.0, validator=_seconds)
    time_wait: float = attrs.field(default=60.0, validator=_seconds_or_0)
    reset: float = attrs.field(default=10.0, validator=_seconds_or_0)
    gap_hold: float = attrs.field(default=0.5, validator=_seconds_or_0)
    gap_age: float = attrs.field(default=30.0, validator=_seconds)


_budgets = must("Budgets", lambda value: isinstance(value, Budgets))
_timeouts = must("Timeouts", lambda value: isinstance(value, Timeouts))
_checksums = must("ignore or verify", ("ignore", "verify").__contains__)
_on_error = must("log or raise", ("log", "raise").__contains__)
_fail = must("open or closed", ("open", "closed").__contains__)
_flag = must("True or False", lambda value: isinstance(value, bool))
_ports = must(
    "at most 8 ports, 1 to 65535",
    lambda value: (
        isinstance(value, tuple)
        and len(value) <= 8
        and all(type(port) is int and 0 < port < 65536 for port in value)
    ),
)


@attrs.frozen(kw_only=True)
class Settings:
    """All settings of one engine.

    Attributes:
        budgets: What it may hold.
        timeouts: How long it waits.
        checksums: 'verify' counts and passes over packets whose IPv4 or TCP checksum is wrong; 'ignore'
            reads them, as a capture from the sending host has sums its network card had yet to fill in.
        decapsulate: Whether to look into tunnels: GRE, IP-in-IP, VXLAN, GTP-U, L2TP and so on.
        vxlan_ports: UDP ports of VXLAN, at most 8. Besides its own, one that Linux had before.
        separate_vlans: Whether the same addresses and ports on two VLANs are two flows. Off, as a mirror port may
            tag the two directions differently.
        separate_tunnels: Whether the same addresses and ports in two tunnels are two flows. Off, as the two directions
            may go through different ones. Only with `decapsulate`.
        on_error: What an exception in a handler or callback does: 'log' ends its interest in that flow, and
            nothing else; 'raise' ends the run.
        fail: In line, what becomes of a packet whose callback has raised: 'open' passes it on; 'closed' drops it, and
            all that comes of its flow.
    """

    budgets: Budgets = attrs.field(factory=Budgets, validator=_budgets)
    timeouts: Timeouts = attrs.field(factory=Timeouts, validator=_timeouts)
    checksums: Literal["ignore", "verify"] = attrs.field(default="ignore", validator=_checksums)
    decapsulate: bool = attrs.field(default=False, validator=_flag)
    vxlan_ports: tuple[int, ...] = attrs.field(default=(4789, 8472), validator=_ports)
    separate_vlans: bool = attrs.field(default=False, validator=_flag)
    separate_tunnels: bool = attrs.field(default=False, validator=_flag)
    on_error: Literal["log", "raise"] = attrs.field(default="log", validator=_on_error)
    fail: Literal["open", "closed"] = attrs.field(default="open", validator=_fail)

    @classmethod
    def from_pairs(cls, pairs: Iterable[str]) -> "Settings":
        """Make settings from ``name=value`` texts; what is not named keeps its default.

        Args:
            pairs: Such as ``["timeouts.established=60", "checksums=verify"]``.

        Raises:
            OptionError: an unknown name, or a value that is not allowed.
        """
        return build(cls, pairs, owner="aiomos")
