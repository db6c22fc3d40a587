"""The events that TCP processing raises of its own accord, and what callbacks are told of them.

Their order within one packet is a table in docs/reference/events.md; `aiomos.ude.user` builds on them.
"""

from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Literal

import attrs

from aiomos.levels import Level

if TYPE_CHECKING:
    from aiomos.face.packets import Packet
    from aiomos.face.views import Flow, Half, State
    from aiomos.ude.user import UserEvent


class Event(Enum):
    """A built-in event; its value is its name.

    Each says when exactly it is raised, how often, before or after what, what suppresses it, and from which
    level on it exists.
    """

    PKT_IN = "pkt_in"
    """A packet has come in.

    Raised for every segment of a flow, also for those that are not believed. At `Hook.RAW`, for every IP packet of
    any protocol, fragments included, before its flow is looked up. From `Level.STATE` on.
    """

    PKT_OUT = "pkt_out"
    """A packet goes out again: the last event of a segment of a flow.

    Offline, too: there, it is where the segment leaves TCP processing. From `Level.STATE` on.
    """

    CONN_START = "conn_start"
    """The first SYN of a connection.

    Raised once a flow, never for one picked up in mid-stream. At `Hook.SENDER` the client is in SYN-SENT, at
    `Hook.RECEIVER` the server in SYN-RECEIVED as well. From `Level.STATE` on.
    """

    CONN_SETUP = "conn_setup"
    """The three-way handshake is complete: the server has the client's acknowledgement of its SYN.

    Raised once a flow, after both ends' states are up to date and before any payload of the same packet is
    delivered. Never raised for a flow picked up in mid-stream, nor for a handshake that fails. From
    `Level.STATE` on.
    """

    CONN_NEW_DATA = "conn_new_data"
    """Bytes were added to the contiguous part of a half.

    Raised once per half and batch of frames, after the batch, and before any handler sees the bytes; for a flow that
    ends, before its `CONN_TEARDOWN`. Where bytes are missing in between, it is raised for each run. No packet belongs
    to it: ``event.offset`` and ``event.length`` say which bytes they are, and ``half.peek`` reads them. From
    `Level.STREAM` on.
    """

    CONN_TEARDOWN = "conn_teardown"
    """The flow has ended: both FINs acknowledged, reset, timed out, evicted, or out of frames.

    Raised once for every flow the app's filter picked, whether or not `CONN_SETUP` was; last of the flow's
    events. ``flow.reason`` says which end it was. From `Level.STATE` on.
    """

    ERROR = "error"
    """Something went wrong: a segment that is not believed, bytes that are missing or differ, an eviction.

    ``event.kind`` says what, see `ErrorKind`. A callback that wants no more of the flow calls ``flow.stop()``. From
    `Level.STATE` on; what concerns bytes, from the level on that follows them.
    """

    STATE_CHANGE = "state_change"
    """The TCP state of an end has changed.

    Raised once for each end a packet changes, the sender's first; ``event.before`` and ``event.after`` are the
    states, ``half`` is the end. At `Hook.SENDER`, the sender's change only, while the receiver is as it was. From
    `Level.STATE` on.
    """

    ORPHAN = "orphan"
    """A segment of no flow: none is known, and it opened none.

    No flow belongs to it. A filter takes the sender for the client. From `Level.STATE` on.
    """

    REXMIT = "rexmit"
    """A segment was sent again: data, SYN or FIN that was seen before, or that fills an old hole.

    Raised before the bytes are merged: ``event.old`` are the bytes held for the same place, ``event.new`` those of the
    segment. ``event.kind`` is one of `RexmitKind`. From `Level.BYTES` on; ``event.old`` from `Level.STREAM` on.
    """

    TIMEOUT = "timeout"
    """A timer of the flow, set by ``flow.timer(seconds)``, has run out.

    Raised for the app that set it, before the first packet that is later than it. From `Level.STATE` on.
    """

    FRAME = "frame"
    """A frame in which there is no packet to speak of.

    Raised at `Hook.RAW` for every frame for which `PKT_IN` is not raised there: one that carries no IP, such as ARP,
    one of a link type that is not read, one that is malformed (``pkt.malformed`` says how). No flow belongs to it, and
    a filter can only ask for its VLAN. From `Level.STATE` on.
    """

    @property
    def level(self) -> Level:
        """The least level at which it exists."""
        return _LEVELS.get(self, Level.STATE)

    @property
    def hooks(self) -> "tuple[Hook, ...]":
        """The hooks at which it is raised."""
        return _HOOKS.get(self, (Hook.RECEIVER,))


_LEVELS = {Event.CONN_NEW_DATA: Level.STREAM, Event.REXMIT: Level.BYTES}

PKT_IN = Event.PKT_IN
PKT_OUT = Event.PKT_OUT
CONN_START = Event.CONN_START
CONN_SETUP = Event.CONN_SETUP
CONN_NEW_DATA = Event.CONN_NEW_DATA
CONN_TEARDOWN = Event.CONN_TEARDOWN
ERROR = Event.ERROR
STATE_CHANGE = Event.STATE_CHANGE
ORPHAN = Event.ORPHAN
REXMIT = Event.REXMIT
TIMEOUT = Event.TIMEOUT
FRAME = Event.FRAME


class Hook(Enum):
    """Where in the processing of a packet a callback runs (mOS: HK_SND, HK_RCV, raw sockets)."""

    RAW = "raw"
    """Before the flow is looked up: there is no flow yet."""

    SENDER = "sender"
    """The sender's state is new, its receiver has not seen the packet."""

    RECEIVER = "receiver"
    """Both ends are up to date."""


_HOOKS = {
    PKT_IN: (Hook.RAW, Hook.SENDER, Hook.RECEIVER),
    CONN_START: (Hook.SENDER, Hook.RECEIVER),
    STATE_CHANGE: (Hook.SENDER, Hook.RECEIVER),
    FRAME: (Hook.RAW,),
}


class ErrorKind(StrEnum):
    """What an `ERROR` is about.

    First segments that are not believed, then bytes a reader will not get (``gap.*``), then the rest.
    """

    NO_ACK = "no_ack"
    BAD_FLAGS = "bad_flags"
    OUT_OF_WINDOW = "out_of_window"
    BAD_ACK = "bad_ack"
    BAD_RESET = "bad_reset"
    SYN_IN_CONNECTION = "syn_in_connection"
    BAD_SYNACK = "bad_synack"
    PAWS = "paws"
    AFTER_FIN = "after_fin"
    UNSIGNED = "unsigned"
    BAD_OPTIONS = "bad_options"
    ACK_UNSEEN = "ack_unseen"
    BEFORE_SYNACK = "before_synack"
    GAP_LOST = "gap.lost"
    GAP_AGE = "gap.age"
    GAP_BUDGET = "gap.budget"
    GAP_SNAPLEN = "gap.snaplen"
    GAP_END = "gap.end"
    GAP_UNREAD = "gap.unread"
    CONFLICT = "conflict"
    EVICTED = "evicted"
    MALFORMED_TCP = "malformed.tcp"
    MALFORMED_TCP_CUT = "malformed.tcp_cut"
    MALFORMED_CHECKSUM = "malformed.checksum"


class RexmitKind(StrEnum):
    """Why a segment was sent again, as far as a monitor can tell."""

    RTO = "rto"
    FAST = "fast"
    SPURIOUS = "spurious"
    SYN = "syn"
    FIN = "fin"


@attrs.frozen(eq=False, kw_only=True)
class Occurrence:
    """One time that an event happened: what a callback gets as ``event``, and ``conn.events()`` yields.

    Attributes:
        event: The event, built-in or user-defined.
        flow: The flow; None where there is none yet.
        side: ``client`` or ``server``: who sent the packet, or whose half it is about.
        time: When, in seconds since the epoch.
        packet: A copy of the packet; None where the event has none, and in callbacks, which ask for ``pkt``.
        kind: Of `ERROR`, an `ErrorKind`; of `REXMIT`, a `RexmitKind`.
        offset: Stream offset of the first byte that it is about.
        length: How many bytes it is about.
        old: The bytes that were there: of `REXMIT` and of an `ERROR` about a conflict.
        new: The bytes that came.
        before: Of `STATE_CHANGE`, the state before.
        after: Of `STATE_CHANGE`, the state now.
    """

    event: "Event | UserEvent"
    flow: "Flow | None" = None
    side: Literal["client", "server"] = "client"
    time: float = 0.0
    packet: "Packet | None" = None
    kind: str | None = None
    offset: int | None = None
    length: int | None = None
    old: bytes | None = None
    new: bytes | None = None
    before: "State | None" = None
    after: "State | None" = None

    @property
    def name(self) -> str:
        """The event's name."""
        return self.event.value if isinstance(self.event, Event) else self.event.name

    @property
    def half(self) -> "Half | None":
        """The half that *side* names; None without a flow."""
        return None if self.flow is None else self.flow.half(self.side)
