"""Retransmissions by kind, with keep-alives and window probes, of each connection and in all.

::

    aiomos run aiomos.apps.rexmit --pcap trace.pcap
    aiomos run aiomos.apps.rexmit --pcap trace.pcap --set format=jsonl --set path=rexmit.jsonl

It is the second application of the mOS paper's section 5.2, and counts what tcptrace does. Kinds are told apart as
Wireshark does: ``rto`` after a time-out, ``fast`` after duplicate acknowledgements, ``spurious`` of bytes that had been
acknowledged, ``syn`` and ``fin`` of segments without data.
"""

import heapq
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import attrs
import orjson

from aiomos import CONN_TEARDOWN, PKT_IN, REXMIT, App, CallbackRegistration, Level
from aiomos.apps._output import Output, endpoint, ends_of, share
from aiomos.options import must
from aiomos.outputs import ended
from aiomos.ude.events import RexmitKind

if TYPE_CHECKING:
    from aiomos import Flow, Half, Occurrence, Packet

PROBES = ("keep_alive", "zero_window_probe")
KINDS = (*map(str, RexmitKind), *PROBES)
FIGURES = ("packets", "bytes", "retransmits", *KINDS, "rexmit_bytes")
HEADINGS = (
    "from",
    "to",
    "packets",
    *(kind.replace("_", " ") for kind in KINDS),
    "bytes sent again",
    "of all",
)

SPARE = ("packets", "fin", "syn", "zero window probe", "keep alive", "bytes sent again", "spurious", "fast")
"""What is left out first where a terminal is narrow."""

Ranked = tuple[int, int, int, tuple[str, ...]]
"""Retransmissions of a half, their bytes, a number that no other has, and its row of the table."""


@attrs.define
class Options:
    """What to write, and where.

    Attributes:
        path: File to write; standard output without it.
        format: table for people, at the end; jsonl for JSON Lines, each connection when it ends.
        top: Rows of the table: the halves with the most retransmissions.
        filter: Which connections; all without it.
        midstream: Whether to count in connections whose SYN was not captured, too; they are marked.
        all: Whether JSON Lines have connections too that sent nothing again.
    """

    path: Path | None = None
    format: Literal["table", "jsonl"] = "table"
    top: int = attrs.field(default=20, validator=must("at least 1", lambda n: n >= 1))
    filter: str = ""
    midstream: bool = True
    all: bool = False


app = App("rexmit", options=Options)


@app.ude(PKT_IN, native=True)
def probe(pkt: "Packet", half: "Half") -> bool:
    """Whether a segment only asks for an answer: a keep-alive (RFC 9293 section 3.8.4) or window probe (3.8.6.1)."""
    if pkt.payload_len > 1 or pkt.syn or pkt.fin or pkt.rst or half.fin_seen or half.snd_nxt is None:
        return False
    if pkt.payload_len == 0:
        return pkt.seq == (half.snd_nxt - 1) & 0xFFFF_FFFF
    if pkt.seq == half.snd_una:
        return half.peer.window == 0
    return half.snd_una == half.snd_nxt and pkt.seq == (half.snd_nxt - 1) & 0xFFFF_FFFF


class Report:
    """What one run has seen: its callbacks, and where they write."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._output = Output(options.path)
        self._connections = Counter({"connections": 0, "connections_with_any": 0, "connections_midstream": 0})
        self._total: Counter[str] = Counter()
        self._worst: list[Ranked] = []
        self._serial = count()

    def register(self) -> list[CallbackRegistration]:
        """Have retransmissions and probes counted, and each flow reported when it ends."""
        options = self._options
        chosen: dict[str, Any] = {
            "filter": options.filter,
            "level": Level.BYTES,
            "midstream": options.midstream,
        }
        return [
            app.on(REXMIT, **chosen)(self.sent_again),
            app.on(probe, **chosen)(self.probed),
            app.on(CONN_TEARDOWN, **chosen)(self.ended),
        ]

    def sent_again(self, pkt: "Packet", flow: "Flow", side: str, event: "Occurrence") -> None:
        """Count a retransmission."""
        counts = flow.ctx.setdefault(side, Counter())
        counts[event.kind] += 1
        counts["retransmits"] += 1
        counts["rexmit_bytes"] += pkt.payload_len

    def probed(self, flow: "Flow", half: "Half", side: str) -> None:
        """Count a probe: of the window if that is shut, whether or not it carries a byte."""
        counts = flow.ctx.setdefault(side, Counter())
        counts[PROBES[half.peer.window == 0]] += 1

    def ended(self, flow: "Flow") -> None:
        """Report a connection that sent anything again, and add any to the sum."""
        self._connections["connections"] += 1
        for half in (flow.client, flow.server):
            self._total["packets"] += half.packets
            self._total["bytes"] += half.bytes
        for counts in flow.ctx.values():
            self._total.update(counts)
        self._connections["connections_with_any"] += bool(flow.ctx)
        self._connections["connections_midstream"] += flow.midstream
        if self._options.format == "table":
            for side, counts in flow.ctx.items():
                self._rank(flow.half(side), counts, midstream=flow.midstream)
        elif flow.ctx or self._options.all:
            self._output.write(connection_record(flow))

    def close(self) -> None:
        """Write what is left: the sum, and the table."""
        part = Part(self._connections, self._total, self._worst)
        write = write_total if self._options.format == "jsonl" else partial(draw, self._options.top)
        try:
            self._output.summarise(part, write)
        finally:
            self._output.close()

    def _rank(self, half: "Half", counts: Counter[str], *, midstream: bool) -> None:
        sender, receiver = (endpoint(end.address, end.port) for end in (half, half.peer))
        row = (ended(sender, midstream=midstream), receiver, *cells(of_half(half, counts)))
        # Of two that are alike the earlier is kept: the serial number never lets rows be compared.
        ranked = (counts["retransmits"], counts["rexmit_bytes"], -next(self._serial), row)
        if len(self._worst) < self._options.top:
            heapq.heappush(self._worst, ranked)
        else:
            heapq.heappushpop(self._worst, ranked)


class Part(NamedTuple):
    """What one worker has seen in all."""

    connections: Counter[str]
    total: Counter[str]
    worst: list[Ranked]


def add_up(parts: Sequence[Part]) -> tuple[Counter[str], Counter[str]]:
    """Sum the connections, and the figures, of all workers."""
    connections: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for part in parts:
        connections.update(part.connections)
        total.update(part.total)
    return connections, total


def write_total(parts: Sequence[Part], file: IO[bytes]) -> None:
    """Write the sum as a record."""
    connections, total = add_up(parts)
    record = {"record": "total", **connections, **figures(total)}
    file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


def draw(top: int, parts: Sequence[Part], file: IO[bytes]) -> None:
    """Draw the table of the halves that sent most again, and of the sum."""
    from aiomos.console.terminal import Layout, print_table

    connections, total = add_up(parts)
    title = f"Sent again in {connections['connections_with_any']:,} of {connections['connections']:,} TCP connections"
    if connections["connections_midstream"]:
        title += f" ({connections['connections_midstream']:,} without their SYN)"
    worst = sorted(
        (ranked for part in parts for ranked in part.worst), key=itemgetter(slice(3)), reverse=True
    )
    rows = [row for *_, row in worst[:top]]
    layout = Layout(stacked=[("from", "to")], spare=SPARE)
    print_table(title, HEADINGS, [*rows, ("in all", "", *cells(total))], file=file, layout=layout)


def of_half(half: "Half", counts: Counter[str]) -> Counter[str]:
    """Add to what was counted of a half what the engine counts."""
    return Counter({**counts, "packets": half.packets, "bytes": half.bytes})


def figures(counted: Counter[str]) -> dict[str, float]:
    """Write down all figures, and the rate: which share of the payload bytes was sent again."""
    rate = share(counted["rexmit_bytes"], counted["bytes"])
    return {**{name: counted[name] for name in FIGURES}, "rexmit_rate": rate}


def connection_record(flow: "Flow") -> dict[str, Any]:
    """Write down a connection and both its halves."""
    return {
        "record": "connection",
        **ends_of(flow),
        "vlan": flow.vlan,
        "midstream": flow.midstream,
        "start": flow.started,
        "end": flow.last,
        "reason": flow.reason,
        **{
            f"{half.name}_{name}": value
            for half in (flow.client, flow.server)
            for name, value in figures(of_half(half, flow.ctx.get(half.name, Counter()))).items()
        },
    }


def cells(counted: Counter[str]) -> tuple[str, ...]:
    """Make a half's part of a row; zeros are left out."""
    numbers = (counted["packets"], *(counted[kind] for kind in KINDS), counted["rexmit_bytes"])
    rate = share(counted["rexmit_bytes"], counted["bytes"])
    return (*(f"{number:,}" if number else "" for number in numbers), f"{rate:.2%}")


_running: list[tuple[Report, list[CallbackRegistration]]] = []


@app.startup
def open_report() -> None:
    """Open the output, and register for the flows the options choose."""
    report = Report(app.options)
    _running.append((report, report.register()))


@app.shutdown
def close_report() -> None:
    """Write what is left and close the output."""
    while _running:
        report, registrations = _running.pop()
        for registration in registrations:
            registration.cancel()
        report.close()
