"""The connections that do most: a table of them that changes with the traffic.

::

    aiomos run aiomos.apps.top --pcap trace.pcap --set interval=0            # one table, at the end
    aiomos run aiomos.apps.top --pcap trace.pcap --set sort=rtt --set speed=1
    aiomos run aiomos.apps.top --pcap trace.pcap --set format=jsonl --set interval=60

A flow is looked at when it begins, when it ends, and for each table; a packet is not looked at. On a terminal the key
``q`` ends the run.
"""

import heapq
import io
import time as clock
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import attrs
import orjson
from rich.console import Console, Group
from rich.live import Live

from aiomos import CONN_TEARDOWN, PKT_IN, App, CallbackRegistration, Level
from aiomos.apps._keys import Keys, listen
from aiomos.apps._output import is_interval
from aiomos.console.terminal import Layout, wide_table, width_of
from aiomos.options import must
from aiomos.outputs import ended, open_output

if TYPE_CHECKING:
    from aiomos import Flow, Runtime
    from aiomos.engine.flow_timers import Timer

REDRAW_SECONDS = 0.1
"""A terminal is not drawn upon more often, however fast the capture is read."""


@attrs.define
class Options:
    """Which connections to show, in what order, and when.

    Attributes:
        sort: What comes first: the highest rate since the last table, the most retransmissions, or the longest
            round-trip time.
        rows: How many connections a table shows.
        interval: Seconds of packet time from table to table; 0 for one at the end, of the whole capture.
        filter: Which connections; all without it.
        midstream: Whether to show connections whose SYN was not captured, too; they are marked, and where there is no
            SYN-ACK either, who is client is judged by port.
        speed: How many times as fast as it was captured the traffic is shown; 0 for as fast as it can be read.
        format: table, which on a terminal is always the latest one, or jsonl for a JSON object a table.
        path: File to write; standard output without it.
    """

    sort: Literal["rate", "retransmits", "rtt"] = "rate"
    rows: int = attrs.field(default=20, validator=must("at least 1", lambda value: value >= 1))
    interval: float = attrs.field(
        default=1.0, validator=must("0, or a millionth to three years", is_interval)
    )
    filter: str = ""
    midstream: bool = True
    speed: float = attrs.field(default=0.0, validator=must("0 or more", lambda value: value >= 0))
    format: Literal["table", "jsonl"] = "table"
    path: Path | None = None


@attrs.frozen
class Row:
    """A connection as a table shows it.

    Attributes:
        client: Address and port.
        server: Address and port.
        states: Of client and server.
        client_rate: Payload bytes per second from the client since the last table, retransmissions included.
        server_rate: The same from the server.
        client_bytes: Payload bytes from the client in all.
        server_bytes: The same from the server.
        client_packets: Segments from the client.
        server_packets: Segments from the server.
        retransmits: Segments that either sent again.
        rtt: Round-trip time between the ends in seconds, as smoothed by both; None until it was measured.
        age: Seconds since its first packet; of one that has ended, to its last.
        reason: How it ended; None while open.
        midstream: Whether its SYN was not captured.
    """

    client: str
    server: str
    states: tuple[str, str]
    client_rate: float
    server_rate: float
    client_bytes: int
    server_bytes: int
    client_packets: int
    server_packets: int
    retransmits: int
    rtt: float | None
    age: float
    reason: str | None
    midstream: bool


@attrs.frozen
class Snapshot:
    """One table.

    Attributes:
        time: The engine's, seconds since the epoch.
        period: Seconds since the table before; of the first, since the first packet.
        open: Connections that are open now.
        ended: Connections that have ended in the period.
        client_bytes: Payload bytes that clients have sent in the period, of all connections.
        server_bytes: The same of servers.
        rows: The connections that come first.
    """

    time: float
    period: float
    open: int
    ended: int
    client_bytes: int
    server_bytes: int
    rows: list[Row]


@attrs.define(eq=False)
class Watched:
    """A connection and what it had sent at the last table."""

    flow: "Flow"
    client_bytes: int = 0
    server_bytes: int = 0


Change = tuple[float, int, Watched, int, int]
"""Key to sort by, a number that no other has, the connection, and the bytes of either end in the period."""


class Top:
    """The connections of one run, and the tables made of them."""

    def __init__(self, options: Options, show: Callable[[Snapshot], None]) -> None:
        self._options = options
        self._show = show
        self._open: set[Watched] = set()
        self._ended: list[Change] = []  # a heap of the first *rows* among those that ended in this period
        self._ended_count = 0
        self._sums = [0, 0]  # of those that ended in this period
        self._since = 0.0
        self._ticking: tuple[Watched, Timer] | None = None
        self._pace = Pace(options.speed)
        self._number = 0

    # --- connections --------------------------------------------------------------------------------

    def begin(self, flow: "Flow", time: float) -> None:
        """Watch a connection."""
        watched = flow.ctx = Watched(flow)
        self._open.add(watched)
        if not self._since:
            self._since = time
            self._pace.begin(time)
        if self._ticking is None:
            self._tick_with(watched, max(0.0, self._since + self._options.interval - time))

    def end(self, flow: "Flow", time: float) -> None:
        """Take the last values of a connection."""
        watched = flow.ctx
        if not isinstance(watched, Watched):  # no packet was seen of it since the app was attached
            return
        self._open.discard(watched)
        change = self._change(watched)
        self._ended_count += 1
        self._sums[0] += change[3]
        self._sums[1] += change[4]
        keep = heapq.heappush if len(self._ended) < self._options.rows else heapq.heappushpop
        keep(self._ended, change)
        if self._ticking is not None and self._ticking[0] is watched:
            due = self._ticking[1].due
            self._ticking = None
            if self._open:
                self._tick_with(next(iter(self._open)), max(0.0, due - time))

    # --- time ---------------------------------------------------------------------------------------

    def _tick_with(self, watched: Watched, delay: float) -> None:
        """Have a connection's timer say when the next table is due: without connections there is nothing to show."""
        if self._options.interval:
            self._ticking = watched, watched.flow.timer(delay, self._tick)

    def _tick(self, flow: "Flow") -> None:
        assert self._ticking is not None
        due = self._ticking[1].due
        self.snapshot(due)
        self._pace.wait(due)
        self._tick_with(flow.ctx, self._options.interval)

    # --- tables -------------------------------------------------------------------------------------

    def snapshot(self, time: float) -> None:
        """Make a table of the period that ends now, and begin another."""
        changes = [self._change(watched) for watched in self._open]
        period = max(time - self._since, 1e-9)
        first = heapq.nlargest(self._options.rows, (*changes, *self._ended))
        self._show(
            Snapshot(
                time=time,
                period=period,
                open=len(changes),
                ended=self._ended_count,
                client_bytes=self._sums[0] + sum(change[3] for change in changes),
                server_bytes=self._sums[1] + sum(change[4] for change in changes),
                rows=[_row(change, time, period) for change in first],
            )
        )
        for _, _, watched, client_bytes, server_bytes in changes:
            watched.client_bytes += client_bytes
            watched.server_bytes += server_bytes
        self._ended, self._ended_count, self._sums = [], 0, [0, 0]
        self._since = time

    def finish(self) -> None:
        """Make the last table, of what has ended since the one before."""
        if self._ended:
            last = max(change[2].flow.last for change in self._ended)
            self.snapshot(max(last, self._since))

    def _change(self, watched: Watched) -> Change:
        client, server = watched.flow.client, watched.flow.server
        sent = client.bytes - watched.client_bytes, server.bytes - watched.server_bytes
        if self._options.sort == "rate":
            key: float = sum(sent)
        elif self._options.sort == "rtt":
            key = _rtt(watched.flow) or 0.0
        else:
            key = client.retransmits + server.retransmits
        self._number += 1
        return key, -self._number, watched, *sent


def _row(change: Change, time: float, period: float) -> Row:
    _, _, watched, client_sent, server_sent = change
    flow = watched.flow
    client, server = flow.client, flow.server
    form = "[{}]:{}" if flow.ip_version == 6 else "{}:{}"
    return Row(
        client=form.format(client.address, client.port),
        server=form.format(server.address, server.port),
        states=(client.state.name, server.state.name),
        client_rate=client_sent / period,
        server_rate=server_sent / period,
        client_bytes=client.bytes,
        server_bytes=server.bytes,
        client_packets=client.packets,
        server_packets=server.packets,
        retransmits=client.retransmits + server.retransmits,
        rtt=_rtt(flow),
        age=(flow.last if flow.reason else time) - flow.started,
        reason=flow.reason,
        midstream=flow.midstream,
    )


def _rtt(flow: "Flow") -> float | None:
    """The way to the one end and back, and to the other; with one of them unknown, that of the handshake."""
    client, server = flow.client.rtt, flow.server.rtt
    return flow.handshake_rtt if client is None or server is None else client + server


class Pace:
    """Holds the whole run back, so that packet time passes so many times as fast as ours."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._packet_time = self._our_time = 0.0

    def begin(self, time: float) -> None:
        """Time begins now."""
        self._packet_time, self._our_time = time, clock.monotonic()

    def wait(self, time: float) -> None:
        """Wait until packet time may be *time*."""
        if self._speed:
            due = self._our_time + (time - self._packet_time) / self._speed
            clock.sleep(max(0.0, due - clock.monotonic()))


# --- forms ----------------------------------------------------------------------------------------


class Screen(Protocol):
    """Where tables go."""

    def show(self, snapshot: Snapshot) -> None:
        """Show a table."""

    def close(self) -> None:
        """Leave the output as it should be."""


class JsonLines:
    """One JSON object a table."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def show(self, snapshot: Snapshot) -> None:
        """Write a table."""
        self._output.write(orjson.dumps(attrs.asdict(snapshot), option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """Leave the output open for its owner."""


class Plain:
    """One table after the other, as text."""

    def __init__(self, output: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(output, encoding="utf-8", write_through=True)
        self._width = width_of(self._text)
        self._console = Console(file=self._text, width=self._width, highlight=False)

    def show(self, snapshot: Snapshot) -> None:
        """Print a table."""
        self._console.print(_table(snapshot, self._width))

    def close(self) -> None:
        """Leave the output open for its owner."""
        self._text.detach()


class Terminal:
    """The latest table, in place of the one before."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        self._drawn = -REDRAW_SECONDS
        self._latest: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Draw a table, unless the one before was drawn just now."""
        self._latest = snapshot
        if clock.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._draw(snapshot)

    def close(self) -> None:
        """Leave the last table on the screen."""
        if self._latest is not None:
            self._draw(self._latest)
        self._live.stop()

    def _draw(self, snapshot: Snapshot) -> None:
        self._live.update(_table(snapshot, self._console.width), refresh=True)
        self._drawn = clock.monotonic()


HEADINGS = ("client", "server", "states", "sends", "receives", "sent", "received", "resent", "rtt", "age")
LAYOUT = Layout(stacked=[("client", "server")], spare=["age", "received", "sent", "rtt", "resent", "states"])


def _table(snapshot: Snapshot, width: int) -> Group:
    moment = clock.strftime("%Y-%m-%d %H:%M:%S", clock.gmtime(snapshot.time))
    title = (
        f"{moment} UTC  {snapshot.open:,} open, {snapshot.ended:,} ended in {snapshot.period:,.1f} s,  "
        f"{_rate(snapshot.client_bytes / snapshot.period)} from clients, "
        f"{_rate(snapshot.server_bytes / snapshot.period)} from servers"
    )
    return wide_table(title, HEADINGS, [tuple(_cells(row)) for row in snapshot.rows], width, LAYOUT)


def _cells(row: Row) -> Iterator[str]:
    yield row.client
    yield row.server
    how = f"ended: {row.reason}" if row.reason else ", ".join(dict.fromkeys(row.states))
    yield ended(how, midstream=row.midstream)
    yield from map(_rate, (row.client_rate, row.server_rate))
    yield from (f"{count:,}" for count in (row.client_bytes, row.server_bytes, row.retransmits))
    yield "" if row.rtt is None else f"{row.rtt * 1e3:.1f} ms"
    yield f"{row.age:,.1f} s"


def _rate(rate: float) -> str:
    for unit in ("B/s", "kB/s", "MB/s"):
        if rate < 1000:
            return f"{rate:.0f} {unit}"
        rate /= 1000
    return f"{rate:.1f} GB/s"


def _screen(options: Options, output: IO[bytes]) -> Screen:
    if options.format == "jsonl":
        return JsonLines(output)
    return Terminal() if options.interval and output.isatty() else Plain(output)


# --- app ------------------------------------------------------------------------------------------

app = App("top", options=Options)


@app.ude(PKT_IN, native=True, once=True)
def first_seen(flow: "Flow") -> object:  # noqa: ARG001  which says that it is about flows
    """The first packet that is seen of a connection, a SYN or not."""
    return True


@attrs.define
class Run:
    """What is to be ended with the run."""

    top: Top
    screen: Screen
    output: IO[bytes]
    registrations: list[CallbackRegistration]
    keys: Keys | None

    def close(self) -> None:
        """Show the last table and give everything back."""
        if self.keys is not None:
            self.keys.close()
        for registration in self.registrations:
            registration.cancel()
        try:
            self.top.finish()
            self.screen.close()
        finally:
            self.output.close()


_running: list[Run] = []


@app.startup
def begin(engine: "Runtime") -> None:
    """Open the output, and register for the flows the options choose."""
    options = app.options
    output = open_output(options.path)
    screen = _screen(options, output)
    top = Top(options, screen.show)
    chosen: dict[str, Any] = {"filter": options.filter, "level": Level.BYTES, "midstream": options.midstream}
    registrations = [app.on(first_seen, **chosen)(top.begin), app.on(CONN_TEARDOWN, **chosen)(top.end)]
    keys = listen({"q": engine.stop}) if isinstance(screen, Terminal) else None
    _running.append(Run(top, screen, output, registrations, keys))


@app.shutdown
def end() -> None:
    """Show the last table and close the output."""
    while _running:
        _running.pop().close()
