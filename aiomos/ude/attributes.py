"""The attributes that predicates can read without the interpreter: how each is called, and which field it is."""

from collections.abc import Callable

from aiomos.levels import Level
from aiomos.tcp.flows import REASON_NAMES
from aiomos.ude.instructions import AddressField, BytesField, Field, Which
from aiomos.ude.nodes import Address, Bytes, Node, Number, Peek, Thing

__all__ = ["FLOW", "HALF", "HALVES", "PACKET", "PEERS", "SIDES", "UNSUPPORTED", "least_level"]

SIDES = ((0, "client"), (1, "server"))
_REASONS = tuple(enumerate(REASON_NAMES[1:], start=1))
_FLAGS = ("fin", "syn", "rst", "psh", "ack_flag", "urg", "ece", "cwr", "ae")

PACKET: dict[str, Node] = {
    "vlan": Number(Field.PACKET_VLAN),
    "known": Number(Field.PACKET_KNOWN),
    "ip_version": Number(Field.PACKET_IP_VERSION),
    "proto": Number(Field.PACKET_PROTO),
    "ttl": Number(Field.TTL),
    "tos": Number(Field.TOS),
    "dscp": Number(Field.DSCP),
    "ecn": Number(Field.ECN),
    "ip_id": Number(Field.IP_ID),
    "dont_fragment": Number(Field.DONT_FRAGMENT),
    "fragment_offset": Number(Field.FRAGMENT_OFFSET),
    "more_fragments": Number(Field.MORE_FRAGMENTS),
    "src": Address(AddressField.SOURCE_ADDRESS),
    "dst": Address(AddressField.DESTINATION_ADDRESS),
    "sport": Number(Field.SPORT),
    "dport": Number(Field.DPORT),
    "seq": Number(Field.SEQ),
    "ack": Number(Field.ACK_NUMBER),
    "flags": Number(Field.FLAGS),
    **{name: Number(Field.FLAG, bit) for bit, name in enumerate(_FLAGS)},
    "window": Number(Field.SEGMENT_WINDOW),
    "urgent": Number(Field.URGENT),
    "mss": Number(Field.OPTION_MSS),
    "window_scale": Number(Field.OPTION_WINDOW_SCALE),
    "sack_permitted": Number(Field.OPTION_SACK_PERMITTED),
    "tsval": Number(Field.TSVAL),
    "tsecr": Number(Field.TSECR),
    "header_len": Number(Field.HEADER_LEN),
    "payload": Bytes(BytesField.PAYLOAD),
    "payload_len": Number(Field.PAYLOAD_LEN),
    "length": Number(Field.PACKET_LENGTH),
    "raw": Bytes(BytesField.RAW),
}

FLOW: dict[str, Node] = {
    "ip_version": Number(Field.FLOW_IP_VERSION),
    "vlan": Number(Field.FLOW_VLAN),
    "established": Number(Field.FLOW_IS_ESTABLISHED),
    "closed": Number(Field.FLOW_IS_CLOSED),
    "midstream": Number(Field.FLOW_IS_MIDSTREAM),
    "guessed_roles": Number(Field.FLOW_HAS_GUESSED_ROLES),
    "reason": Number(Field.FLOW_REASON, 0, _REASONS),
}

HALVES = {"client": Which.OF_CLIENT, "server": Which.OF_SERVER}
PEERS = {
    Which.OF_CLIENT: Which.OF_SERVER,
    Which.OF_SERVER: Which.OF_CLIENT,
    Which.OF_SENDER: Which.OF_PEER,
    Which.OF_PEER: Which.OF_SENDER,
}

HALF: dict[str, Callable[[int], Node]] = {
    "peer": lambda which: Thing(Field.HALF_NAME, PEERS[Which(which)]),
    "name": lambda which: Number(Field.HALF_NAME, which, SIDES),
    "address": lambda which: Address(AddressField.HALF_ADDRESS, which),
    **{
        name: lambda which, field=field: Number(field, which)  # type: ignore[misc]
        for name, field in {
            "port": Field.HALF_PORT,
            "state": Field.HALF_STATE,
            "packets": Field.HALF_PACKETS,
            "mss": Field.HALF_MSS,
            "window_scale": Field.HALF_WINDOW_SCALE,
            "window": Field.HALF_WINDOW,
            "sack_permitted": Field.HALF_SACK_PERMITTED,
            "timestamps": Field.HALF_TIMESTAMPS,
            "bytes": Field.HALF_BYTES,
            "stream_bytes": Field.HALF_STREAM_BYTES,
            "retransmits": Field.HALF_RETRANSMITS,
            "out_of_order": Field.HALF_OUT_OF_ORDER,
            "lost": Field.HALF_LOST,
            "conflicts": Field.HALF_CONFLICTS,
            "gaps": Field.HALF_GAPS,
            "gap_bytes": Field.HALF_GAP_BYTES,
            "late_bytes": Field.HALF_LATE_BYTES,
            "stream_offset": Field.HALF_STREAM_OFFSET,
            "dup_acks": Field.HALF_DUP_ACKS,
            "acked": Field.HALF_ACKED,
            "level": Field.HALF_LEVEL,
            "fin_seen": Field.HALF_FIN_SEEN,
            "iss": Field.HALF_ISS,
            "snd_nxt": Field.HALF_SND_NXT,
            "snd_una": Field.HALF_SND_UNA,
            "in_flight": Field.HALF_IN_FLIGHT,
            "max_window": Field.HALF_MAX_WINDOW,
            "ts_recent": Field.HALF_TS_RECENT,
        }.items()
    },
}

_TIMES = ("time", "started", "last", "handshake_rtt", "rtt", "rttvar", "min_rtt", "last_data")

UNSUPPORTED = {
    **dict.fromkeys(_TIMES, "a float"),
    **dict.fromkeys(("options", "sack", "key", "held"), "a tuple"),
    **dict.fromkeys(("interface", "malformed"), "a text that is only known to Python"),
    **dict.fromkeys(("eth_src", "eth_dst", "ethertype", "frame"), "of the link layer"),
    **dict.fromkeys(("ctx", "dpkt", "reset_by", "facts"), "an object of Python"),
}
"""What keeps the attributes out that are none of the above."""


def least_level(node: Node) -> Level:
    """Give the least level at which a node can be judged."""
    if isinstance(node, Peek):
        return Level.STREAM
    if isinstance(node, Number) and node.field >= Field.HALF_BYTES:
        return Level.BYTES
    return max((least_level(part) for part in node.parts), default=Level.STATE)
