"""Trials: a connection brought into a state, one segment in its peer's name, and what came of it.

The kernel is asked by `tests.receiver.kernel`, which writes what it says into `tests/data/receiver.jsonl`: one line
for the way into each state, then one a trial. Numbers are relative to each end's own initial ones, stamps to its
first, so that the frames can be made again with any (`frames_of`) and be shown to the monitor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiomos.testing.packets import PROTO_TCP, ethernet, ip, mss, sack_ok, tcp, timestamps, wscale
from aiomos.testing.scenario import LINKTYPE_ETHERNET, START, Frame

TABLE = Path(__file__).parents[1] / "data" / "receiver.jsonl"
KERNEL, PEER = "192.0.2.1", "192.0.2.2"
TAIL = b"tail"
"""What the peer goes on with afterwards, so that it shows whether the segment has done any harm."""


class Sent(NamedTuple):
    """A segment as it passed."""

    by_kernel: bool
    flags: str
    seq: int | None
    """None where it is 0 on the wire, as in a RST that answers a SYN of nothing."""
    ack: int | None
    """None without ACK."""
    payload: str = ""
    window: int = 65535
    syn: tuple[int, bool, int] | None = None
    """MSS, SACK permitted, window scale (-1: none) of a SYN."""
    stamps: tuple[int, int | None] | None = None
    """TSval, and TSecr (None: 0)."""
    urgent: int = 0
    ms: int = 0
    """Milliseconds since the first."""


class Segment(NamedTuple):
    """What a trial sends, in distances from what would be right."""

    flags: str
    seq: int = 0
    """From the kernel's RCV.NXT."""
    ack: int = 0
    """From the kernel's SND.NXT."""
    payload: str = ""
    stamps: str = "right"
    """`right`, `none`, `old`, `tick` or `ticks` (TSval, by one or two below the last), `unsent` or `ahead` (TSecr below
    the first, or beyond now)."""

    def __str__(self) -> str:
        text = self.flags or "-"
        for name in ("seq", "ack"):
            if distance := getattr(self, name):
                text += f" {name}{distance:+}"
        text += f" {self.payload}" if self.payload else ""
        return text + (f" stamps={self.stamps}" if self.stamps != "right" else "")


class Answer(NamedTuple):
    """What came of a trial."""

    state: str
    segment: str
    sent: list[Sent]
    """The segment, and what the kernel answered."""
    after: str
    """State of the kernel's end then; CLOSED if it has forgotten the connection."""
    error: str
    """What the kernel told the socket: `ECONNRESET`, ...; empty if nothing."""
    tail: list[Sent]
    """How both go on."""
    read: str
    """All bytes that the socket read."""


STATES = (
    "SYN_SENT",
    "SYN_RECEIVED by SYN",
    "SYN_RECEIVED",
    "ESTABLISHED",
    "ESTABLISHED with data in flight",
    "ESTABLISHED with a hole",
    "FIN_WAIT_1",
    "FIN_WAIT_2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "TIME_WAIT",
)
"""A name's first word is the state of the kernel's end."""

CONTROL = ("", "P", "F", "A", "FA", "S", "SA", "SF", "SFA", "R", "RA", "SR", "SRA", "FSRPAU")
FAR = 200_000
"""Beyond any window, before or after: the ends keep theirs at 64 KiB."""


def segments() -> Iterator[Segment]:
    """Yield what is tried in each state."""
    for flags in CONTROL:
        yield Segment(flags)
    for flags in ("P", "PA", "FPA", "PAU", "SPA", "S"):
        yield Segment(flags, payload="EVIL")
    for flags, payload in (
        ("A", ""), ("PA", "EVIL"), ("FA", ""), ("FPA", "EVIL"), ("R", ""), ("RA", ""), ("S", ""), ("SA", ""),
    ):  # fmt: skip
        for seq in (-FAR, -2, -1, 3, 60_000, FAR):
            yield Segment(flags, seq=seq, payload=payload)
        if "A" in flags:
            for ack in (-FAR, -3, -1, 1, 1000, FAR):
                yield Segment(flags, ack=ack, payload=payload)
    for flags, payload in (
        ("A", ""),
        ("PA", "EVIL"),
        ("FA", ""),
        ("R", ""),
        ("RA", ""),
        ("SA", ""),
        ("S", ""),
    ):
        for stamps in ("none", "old", "tick", "ticks", "unsent", "ahead"):
            if stamps != "unsent" or "A" in flags:
                yield Segment(flags, payload=payload, stamps=stamps)


# --- the table ------------------------------------------------------------------------------------------


def save(setups: dict[str, list[Sent]], answers: Sequence[Answer], path: Path = TABLE) -> None:
    """Write the table."""
    lines: list[Any] = [{"state": state, "sent": sent} for state, sent in setups.items()]
    lines += [{**answer._asdict(), "sent": answer.sent, "tail": answer.tail} for answer in answers]
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def load(path: Path = TABLE) -> tuple[dict[str, list[Sent]], list[Answer]]:
    """Read it."""
    setups: dict[str, list[Sent]] = {}
    answers = []
    for line in map(json.loads, path.read_text().splitlines()):
        sent = read_sent(line["sent"])
        if "segment" not in line:
            setups[line["state"]] = sent
        else:
            answers.append(Answer(**line | {"sent": sent, "tail": read_sent(line["tail"])}))
    return setups, answers


def read_sent(rows: list[list[Any]]) -> list[Sent]:
    return [Sent(*(tuple(field) if isinstance(field, list) else field for field in row)) for row in rows]


# --- the frames -----------------------------------------------------------------------------------------


def frames_of(sent: Sequence[Sent], *, kernel_isn: int, peer_isn: int) -> list[Frame]:
    """Make the frames that a capture holds, the kernel's port being 40000 and its peer's 80."""
    return [
        (round(START * 1e9) + one.ms * 1_000_000, frame, LINKTYPE_ETHERNET, len(frame))
        for one in sent
        for frame in [ethernet(packet_of(one, kernel_isn, peer_isn))]
    ]


def packet_of(
    one: Sent, kernel_isn: int, peer_isn: int, ports: tuple[int, int] = (40000, 80), stamp: int = 7000
) -> bytes:
    """Make the IP packet of a segment.

    Args:
        one: The segment.
        kernel_isn: What the kernel's numbers are counted from.
        peer_isn: What its peer's are.
        ports: The kernel's port, and its peer's.
        stamp: What the kernel's stamps are counted from; its peer's begin at 0.
    """
    here, there = (kernel_isn, peer_isn) if one.by_kernel else (peer_isn, kernel_isn)
    options = b""
    if one.syn is not None:
        size, sack, scale = one.syn
        options += mss(size) + (sack_ok() if sack else b"") + (wscale(scale) if scale >= 0 else b"")
    if one.stamps is not None:
        val, ecr = one.stamps
        own, others = (stamp, 0) if one.by_kernel else (0, stamp)
        options += timestamps((val + own) & 0xFFFFFFFF, 0 if ecr is None else (ecr + others) & 0xFFFFFFFF)
    src, dst = (KERNEL, PEER) if one.by_kernel else (PEER, KERNEL)
    segment = tcp(
        one.payload.encode(),
        src=src,
        dst=dst,
        sport=ports[not one.by_kernel],
        dport=ports[one.by_kernel],
        seq=0 if one.seq is None else here + one.seq,
        ack=0 if one.ack is None else there + one.ack,
        flags=one.flags,
        window=one.window,
        urgent=one.urgent,
        options=options,
    )
    return ip(segment, src=src, dst=dst, proto=PROTO_TCP)
