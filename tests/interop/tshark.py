"""What tshark says of a capture, in the words of the `flowlog` and `dump` apps.

tshark (Wireshark 4.0 or later) reads a capture once for the connections, and again for the bytes of those
that carry any. Every preference that bears on the answer is set here, and the user's configuration is kept
out. docs/reference/tshark.md tells what the two programs mean by each field, and where they differ.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, NamedTuple

TSHARK = shutil.which("tshark")
OLDEST = (4, 0)
DISABLED = ("vnc",)
"""Dissectors that begin a new `tcp.stream` in the middle of a connection."""
CANNOT_READ = 2
"""Exit status of tshark where a file is none of its formats, or breaks off."""

PREFERENCES = {
    "ip.defragment": "TRUE",
    "ipv6.defragment": "TRUE",
    "ip.tso_support": "TRUE",
    "ip.check_checksum": "FALSE",
    "tcp.check_checksum": "FALSE",
    "tcp.analyze_sequence_numbers": "TRUE",
    "tcp.desegment_tcp_streams": "FALSE",
    "tcp.reassemble_out_of_order": "FALSE",
    "tcp.track_bytes_in_flight": "FALSE",
    "tcp.try_heuristic_first": "FALSE",
}

RETRANSMISSIONS = ("retransmission", "fast_retransmission", "spurious_retransmission")
PROBES = ("keep_alive", "zero_window_probe")
FIELDS = (
    "frame.time_epoch",
    "frame.protocols",
    "ieee8021ad.id",
    "vlan.id",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "ip.id",
    "tcp.stream",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.seq_raw",
    "tcp.ack_raw",
    "tcp.len",
    "tcp.flags",
    "tcp.window_size_value",
    "tcp.checksum",
    "tcp.options.mss_val",
    "tcp.options.wscale.shift",
    *(f"tcp.analysis.{name}" for name in (*RETRANSMISSIONS, *PROBES)),
    "tcp.analysis.out_of_order",
    "tcp.analysis.initial_rtt",
)
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

MARKS = ("tcp.seq_raw", "tcp.ack_raw", "tcp.len", "tcp.flags", "tcp.window_size_value", "tcp.checksum")
COPIED_WITHIN, UNMARKED_WITHIN = 0.05, 0.003
"""Seconds after which a frame is no copy of another; the second without IP identification."""

FOLLOW_AT_ONCE = 50
GAP = re.compile(rb"\[(\d+) bytes missing in capture file\]\0?")

Side = Literal["client", "server"]


class Endpoint(NamedTuple):
    """Address and port of one end."""

    address: str
    port: int

    @classmethod
    def of(cls, address: str, port: int | str) -> Endpoint:
        return cls(str(ip_address(address.strip("[]"))), int(port))

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass
class Half:
    """What one end sent."""

    packets: int = 0
    bytes: int = 0
    """Payload, retransmissions and copies included."""
    copies: int = 0
    """Frames captured more than once; what tshark takes them for is not counted."""
    copied_bytes: int = 0
    """Payload of these."""
    retransmits: int = 0
    rexmit_bytes: int = 0
    """Payload of these."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Retransmissions and probes, in the words of the `rexmit` app."""
    out_of_order: int = 0
    starts_with_data: bool = False
    """Whether the first packet captured carries payload."""
    mss: int | None = None
    """Of the first SYN; None without the option or the SYN."""
    window_scale: int | None = None


@dataclass
class Connection:
    """One of tshark's conversations."""

    stream: int
    """tshark's number of the conversation."""
    vlan: int | None
    """The outermost VLAN id of the first packet; None without, and for VLAN 0, which only carries a priority."""
    ip_version: int
    start: float
    end: float
    client: Endpoint
    """The sender of the first SYN, or the receiver of the first SYN-ACK, or else of the first packet seen."""
    server: Endpoint
    roles_known: bool = False
    """Whether a SYN or SYN-ACK told who the client is."""
    halves: dict[Endpoint, Half] = field(default_factory=dict)

    def half(self, side: Side) -> Half:
        return self.halves[self.client if side == "client" else self.server]


@dataclass
class Reading:
    """What tshark made of a capture."""

    connections: list[Connection] = field(default_factory=list)
    """In the order in which they begin."""
    whole: bool = True
    """Whether tshark read the file to its end and found nothing wrong with it."""


@dataclass
class Content:
    """The bytes of one half, put in order."""

    data: bytes = b""
    """What was captured; nothing in place of gaps."""
    gaps: Counter[int] = field(default_factory=Counter)
    """How many bytes are missing, by how many of `data` come before them."""


def version() -> tuple[int, int] | None:
    """Return tshark's version, or None where it is not installed."""
    if TSHARK is None:
        return None
    text = subprocess.run([TSHARK, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def run(capture: Path, *arguments: str) -> tuple[str, bool]:
    """Run tshark over a capture, as if nobody had ever configured it.

    Returns:
        Its output, and whether it read the file to the end: of one cut short it tells what there is.
    """
    assert TSHARK is not None
    preferences = [word for name, value in PREFERENCES.items() for word in ("-o", f"{name}:{value}")]
    disabled = [word for name in DISABLED for word in ("--disable-protocol", name)]
    done = subprocess.run(
        [TSHARK, "-n", "-r", str(capture), *preferences, *disabled, *arguments],
        capture_output=True,
        text=True,
        check=False,
        # A folder that does not exist: no preferences, profiles, disabled protocols or plug-ins.
        env=os.environ | {"WIRESHARK_CONFIG_DIR": "/nonexistent", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode in (0, CANNOT_READ), done.stderr
    return done.stdout, not done.returncode


# --- connections ----------------------------------------------------------------------------------------


class Segment(NamedTuple):
    """One TCP segment as tshark decodes it."""

    time: float
    stream: int
    vlan: int | None
    ip_version: int
    src: Endpoint
    dst: Endpoint
    length: int
    flags: int
    mss: int | None
    window_scale: int | None
    analysis: frozenset[str]
    marks: tuple[str, ...]
    """What a copy has in common with it."""
    identified: bool
    """Whether its IP header carries an identification."""
    initial_rtt: float | None
    """Of the handshake, where that was captured."""


def segments(output: str) -> Iterator[Segment]:
    """Read tshark's rows; nothing for segments cut within the header."""
    for line in output.splitlines():
        row = {
            name: text.split(",") if text else [] for name, text in zip(FIELDS, line.split("\t"), strict=True)
        }
        if row["tcp.flags"] and row["tcp.seq_raw"] and row["tcp.len"]:
            yield decode(row)


def decode(row: dict[str, list[str]]) -> Segment:
    """Read a row of fields; with tunnels the outermost TCP header and the IP header before it."""
    layers = row["frame.protocols"][0].split(":")
    outside = layers[: layers.index("tcp")]
    network = next(layer for layer in reversed(outside) if layer in ("ip", "ipv6"))
    at = outside.count(network) - 1
    tags = [int(tag) for tag in (*row["ieee8021ad.id"], *row["vlan.id"])]
    identification = row["ip.id"][at] if network == "ip" else "0"
    return Segment(
        time=float(row["frame.time_epoch"][0]),
        stream=int(row["tcp.stream"][0]),
        vlan=next(filter(None, tags), None),
        ip_version=4 if network == "ip" else 6,
        src=Endpoint.of(row[f"{network}.src"][at], row["tcp.srcport"][0]),
        dst=Endpoint.of(row[f"{network}.dst"][at], row["tcp.dstport"][0]),
        length=int(row["tcp.len"][0]),
        flags=int(row["tcp.flags"][0], 16),
        mss=first_number(row["tcp.options.mss_val"]),
        window_scale=first_number(row["tcp.options.wscale.shift"]),
        analysis=frozenset(
            name.removeprefix("tcp.analysis.")
            for name in FIELDS
            if name.startswith("tcp.analysis.") and row[name]
        ),
        marks=(identification, *(row[name][0] for name in MARKS if row[name])),
        identified=int(identification, 0) != 0,
        initial_rtt=float(row["tcp.analysis.initial_rtt"][0]) if row["tcp.analysis.initial_rtt"] else None,
    )


class Copies:
    """Which frames were captured more than once; tshark does not tell, but has what tells it."""

    def __init__(self) -> None:
        self._seen: defaultdict[tuple[int, Endpoint], dict[tuple[str, ...], float]] = defaultdict(dict)

    def has(self, segment: Segment) -> bool:
        """Tell whether a segment is the copy of one of its half asked about before."""
        seen = self._seen[segment.stream, segment.src]
        last = seen.get(segment.marks)
        seen[segment.marks] = segment.time
        within = COPIED_WITHIN
        if not segment.identified:
            if not segment.length and not segment.flags & (SYN | FIN):
                return False
            within = min(segment.initial_rtt / 2, UNMARKED_WITHIN) if segment.initial_rtt else UNMARKED_WITHIN
        return last is not None and 0 <= segment.time - last <= within


def first_number(values: list[str]) -> int | None:
    return int(values[0]) if values else None


def read(capture: Path) -> Reading:
    """Return a capture's connections; what ICMP errors quote is left out."""
    columns = [word for name in FIELDS for word in ("-e", name)]
    output, whole = run(capture, "-Y", "tcp and not icmp and not icmpv6", "-T", "fields", "-E", "occurrence=a",
                        "-E", "aggregator=,", "-E", "separator=/t", *columns)  # fmt: skip
    found: dict[int, Connection] = {}
    copies = Copies()
    for segment in segments(output):
        connection = found.get(segment.stream)
        if connection is None:
            connection = found[segment.stream] = Connection(
                stream=segment.stream,
                vlan=segment.vlan,
                ip_version=segment.ip_version,
                start=segment.time,
                end=segment.time,
                client=segment.src,
                server=segment.dst,
                halves={segment.src: Half(), segment.dst: Half()},
            )
        add(connection, segment, copied=copies.has(segment))
    return Reading(list(found.values()), whole)


def add(connection: Connection, segment: Segment, *, copied: bool) -> None:
    """Count one more segment of a connection."""
    connection.end = max(connection.end, segment.time)
    opens = segment.flags & (SYN | FIN | RST) == SYN
    if opens and not connection.roles_known:
        ends = (segment.dst, segment.src) if segment.flags & ACK else (segment.src, segment.dst)
        connection.client, connection.server = ends
        connection.roles_known = True
    half = connection.halves[segment.src]
    half.starts_with_data = segment.length > 0 if not half.packets else half.starts_with_data
    half.packets += 1
    half.bytes += segment.length
    half.kinds.update(segment.analysis.intersection(PROBES))
    if copied:
        half.copies += 1
        half.copied_bytes += segment.length
        return
    if not segment.analysis.isdisjoint(RETRANSMISSIONS):
        half.retransmits += 1
        half.rexmit_bytes += segment.length
        half.kinds[kind_of(segment)] += 1
    half.out_of_order += "out_of_order" in segment.analysis
    if opens:
        half.mss = segment.mss if half.mss is None else half.mss
        half.window_scale = segment.window_scale if half.window_scale is None else half.window_scale


def kind_of(segment: Segment) -> str:
    """Tell of what kind a retransmission is; tshark calls those that are fast or spurious retransmissions as well."""
    if segment.flags & SYN:
        return "syn"
    if not segment.length:
        return "fin"
    for kind in ("fast", "spurious"):
        if f"{kind}_retransmission" in segment.analysis:
            return kind
    return "rto"


# --- content --------------------------------------------------------------------------------------------


def contents(capture: Path, streams: Iterable[int]) -> dict[tuple[int, Endpoint], Content]:
    """Return what each end of the given conversations sent, by conversation and sender."""
    numbers = sorted(set(streams))
    found: dict[tuple[int, Endpoint], Content] = {}
    for start in range(0, len(numbers), FOLLOW_AT_ONCE):
        chosen = numbers[start : start + FOLLOW_AT_ONCE]
        follow = [word for number in chosen for word in ("-z", f"follow,tcp,raw,{number}")]
        output, _ = run(capture, "-q", *follow)
        for part in output.split("=" * 67):
            found |= followed(part)
    return found


def followed(text: str) -> dict[tuple[int, Endpoint], Content]:
    """Read one conversation as `-z follow,tcp,raw` prints it; nothing for what is between two of them."""
    heading = re.search(r"Filter: tcp\.stream eq (\d+)\nNode 0: (.*):(\d+)\nNode 1: (.*):(\d+)\n", text)
    if heading is None or heading[3] == heading[5] == "0":
        return {}
    ends = (Endpoint.of(heading[2], heading[3]), Endpoint.of(heading[4], heading[5]))
    both = (Content(), Content())
    for line in text[heading.end() :].splitlines():
        content = both[line.startswith("\t")]
        record = bytes.fromhex(line.strip())
        if gap := GAP.fullmatch(record):
            content.gaps[len(content.data)] += int(gap[1])
        else:
            content.data += record
    return {(int(heading[1]), end): content for end, content in zip(ends, both, strict=True)}
