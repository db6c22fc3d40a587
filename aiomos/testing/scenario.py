"""TCP connections written segment by segment, and what the engine made of them.

A script says who sends what, in sequence numbers relative to each end's own: 0 is the SYN, 1 the first byte::

    c = Conversation()
    c.handshake().client("PA", b"hello").wait(0.5).close()
    seen = watch_in_batches(c.frames)
    assert seen.record["client_bytes"] == 5

Initial sequence numbers lie just below 2**32 unless a script chooses others, so that what it sends
crosses the wrap.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Self

import attrs

from aiomos.app import Overlap, Urgent
from aiomos.engine.engine import Engine
from aiomos.errors import AiomosError
from aiomos.face.chunks import Gap
from aiomos.face.pressure import Pressure
from aiomos.face.streams import MonitorConnection, Stream
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.settings import Settings
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import PROTO_TCP, ethernet, ip, tcp
from aiomos.ude.events import CONN_SETUP, CONN_START, CONN_TEARDOWN, Hook
from aiomos.ude.filters import Filter
from aiomos.wire.numbers import LINKTYPE_ETHERNET

Frame = tuple[int, bytes, int, int]
"""Time in nanoseconds, captured bytes, link type, bytes on the wire."""

Change = Callable[[bytes], bytes | Sequence[bytes]]
"""What happens to a frame before it is captured; it may become several."""

START = 1_700_000_000.0
"""When a script begins, seconds since the epoch."""

NO_CONNECTION = ("CLOSED", "CLOSED")
"""States of the two ends of a five-tuple of which nothing is known."""


# --- scripts --------------------------------------------------------------------------------------


@attrs.define
class _End:
    """One end of a conversation; `next` is the relative number it sends next."""

    host: str
    port: int
    isn: int
    next: int = 0

    @classmethod
    def parse(cls, text: str, isn: int) -> Self:
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port), isn)


class Conversation:
    """Two ends and the frames a capture between them holds.

    Args:
        client: Address and port of the end that opens, ``10.0.0.1:40000`` or ``[2001:db8::1]:40000``.
        server: Address and port of the other.
        client_isn: Sequence number of the client's SYN.
        server_isn: Sequence number of the server's SYN.
        start: Time of the first frame, seconds since the epoch.
        step: Seconds between a segment and the next, on top of what `wait` adds.
        vlan: VLAN id of every frame, or None for no tag.

    Every method that adds segments returns the conversation, so calls can be chained.
    """

    def __init__(
        self,
        client: str = "10.0.0.1:40000",
        server: str = "10.0.0.2:80",
        *,
        client_isn: int = 0xFFFFFF00,
        server_isn: int = 0xFFFFFF80,
        start: float = START,
        step: float = 0.001,
        vlan: int | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self._client = _End.parse(client, client_isn)
        self._server = _End.parse(server, server_isn)
        self._now_ns = round(start * 1e9)
        self._step_ns = round(step * 1e9)
        self._vlan = vlan

    def client(self, flags: str, payload: bytes = b"", **options: Any) -> Self:
        """Have the client send a segment; see `send`."""
        return self.send("client", flags, payload, **options)

    def server(self, flags: str, payload: bytes = b"", **options: Any) -> Self:
        """Have the server send a segment; see `send`."""
        return self.send("server", flags, payload, **options)

    def send(
        self,
        side: str,
        flags: str,
        payload: bytes = b"",
        *,
        seq: int | None = None,
        ack: int | None = None,
        window: int = 65535,
        options: bytes = b"",
        urgent: int = 0,
        ttl: int = 64,
        ip_id: int = 0,
        accurate_ecn: bool = False,
        captured: bool = True,
        forged: bool = False,
        snaplen: int | None = None,
        change: Change | None = None,
    ) -> Self:
        """Have one end send a segment.

        Args:
            side: ``client`` or ``server``.
            flags: Letters of ``FSRPAUEC``.
            payload: Bytes it carries.
            seq: Relative sequence number; by default one past the highest that this end has sent.
            ack: Relative acknowledgement number; by default all that the peer has sent, or the raw value
                0 in a segment without ACK.
            window: Window as sent, unscaled.
            options: TCP options, as built by `aiomos.testing.packets`.
            urgent: Urgent pointer.
            ttl: Time to live or hop limit.
            ip_id: IPv4 identification.
            accurate_ecn: Set AE (RFC 9768).
            captured: Whether the capture holds it; the ends have it either way.
            forged: Sent by someone else in this end's name: neither end's numbers move.
            snaplen: Bytes of the frame that the capture holds, None for all.
            change: What happens to the frame before it is captured, such as damage or fragmentation.
        """
        here, there = (self._client, self._server) if side == "client" else (self._server, self._client)
        at = here.next if seq is None else seq
        if not forged:
            end = at + len(payload) + ("S" in flags) + ("F" in flags)
            here.next = max(here.next, end)
        if captured:
            acks = "A" in flags or ack is not None
            segment = tcp(
                payload,
                src=here.host,
                dst=there.host,
                sport=here.port,
                dport=there.port,
                seq=here.isn + at,
                ack=there.isn + (there.next if ack is None else ack) if acks else 0,
                flags=flags,
                window=window,
                urgent=urgent,
                options=options,
                accurate_ecn=accurate_ecn,
            )
            packet = ip(segment, src=here.host, dst=there.host, proto=PROTO_TCP, ttl=ttl, ip_id=ip_id)
            self._capture(ethernet(packet, vlan=self._vlan), snaplen, change)
        self._now_ns += self._step_ns
        return self

    def _capture(self, frame: bytes, snaplen: int | None, change: Change | None) -> None:
        changed = frame if change is None else change(frame)
        for piece in [changed] if isinstance(changed, bytes) else changed:
            self.frames.append((self._now_ns, piece[:snaplen], LINKTYPE_ETHERNET, len(piece)))

    def wait(self, seconds: float) -> Self:
        """Let time pass; negative seconds set the clock of the capture back."""
        self._now_ns += round(seconds * 1e9)
        return self

    def handshake(self, *, client_options: bytes = b"", server_options: bytes = b"") -> Self:
        """Open in three segments.

        Args:
            client_options: Options of the SYN.
            server_options: Options of the SYN-ACK.
        """
        self.client("S", options=client_options).server("SA", options=server_options)
        return self.client("A")

    def close(self, first: str = "client") -> Self:
        """Close in four segments.

        Args:
            first: The end that sends the first FIN.
        """
        other = "server" if first == "client" else "client"
        return self.send(first, "FA").send(other, "A").send(other, "FA").send(first, "A")


def merge(*conversations: Conversation) -> list[Frame]:
    """Put the frames of several conversations in order of time, equal times in the order of the arguments."""
    frames = [frame for conversation in conversations for frame in conversation.frames]
    return sorted(frames, key=lambda frame: frame[0])


# --- what the engine made of them -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class HalfSeen:
    """What a reader of one half received.

    Attributes:
        data: All bytes in order, gaps left out.
        gaps: ``(offset, length, reason)`` of each gap.
        error: Name of the exception that ended the stream, None for a plain end.
    """

    data: bytes
    gaps: tuple[tuple[int, int, str], ...]
    error: str | None


@attrs.frozen(kw_only=True)
class Watched:
    """What the engine made of some frames.

    Attributes:
        records: One record a flow, in the order in which flows ended, as flowlog writes them.
        streams: At `Level.STREAM`, each flow's client and server half, in the order in which flows opened.
        setups: Times that CONN_SETUP was raised.
        statistics: The engine's counters after the last flow.
    """

    records: list[dict[str, Any]]
    streams: list[tuple[HalfSeen, HalfSeen]]
    setups: int
    statistics: dict[str, int]

    @property
    def record(self) -> dict[str, Any]:
        """The record of the only flow.

        Raises:
            AssertionError: there was another number of flows.
        """
        assert len(self.records) == 1, f"{len(self.records)} flows, expected one: {self.records}"
        return self.records[0]

    @property
    def anomalies(self) -> dict[str, int]:
        """The anomalies that were counted, by name."""
        return {
            name.removeprefix("anomaly."): count
            for name, count in self.statistics.items()
            if name.startswith("anomaly.") and count
        }


class Watcher:
    """An engine with one rule, fed by hand.

    Args:
        level: How much of the flows to follow.
        midstream: Whether to take flows whose SYN was not captured.
        settings: Budgets, time-outs, how frames are read.
        filter: Which flows.
        key: 16 bytes that key the flow table's hash.
        overlap: Who wins bytes that two segments share.
        urgent: Whether urgent bytes are part of the streams.
    """

    def __init__(
        self,
        *,
        level: Level = Level.BYTES,
        midstream: bool = False,
        settings: Settings | None = None,
        filter: str = "",  # noqa: A002 - the word of the field
        key: bytes = bytes(16),
        overlap: Overlap = "first",
        urgent: Urgent = "inline",
    ) -> None:
        self.engine: Engine = Engine(settings or Settings(), key, self._failed)
        self.records: list[dict[str, Any]] = []
        self.flow: Flow | None = None
        self._level = level
        self._setups = 0
        self._connections: list[MonitorConnection] = []
        self._pressure = Pressure(1 << 30, 1 << 30)
        rule = self.engine.add_rule(
            Filter(filter).program,
            level,
            midstream=midstream,
            overlap=overlap,
            urgent=urgent,
            opener=self._open,
        )
        self.engine.add_call(rule, CONN_START, Hook.RECEIVER, self._start, ("flow",))
        self.engine.add_call(rule, CONN_SETUP, Hook.RECEIVER, self._set_up, ("flow",))
        self.engine.add_call(rule, CONN_TEARDOWN, Hook.RECEIVER, self._tear_down, ("flow",))

    def _failed(self, _function: object, _flow: Flow | None, error: Exception) -> None:
        raise error

    def _open(self, flow: Flow) -> MonitorConnection:
        self.flow = flow
        wanted = self._level is Level.STREAM
        connection = MonitorConnection(flow, self._pressure, self.engine.released, "mark", wanted)
        self._connections.append(connection)
        return connection

    def _start(self, flow: Flow) -> None:
        self.flow = flow

    def _set_up(self, _flow: Flow) -> None:
        self._setups += 1

    def _tear_down(self, flow: Flow) -> None:
        self.records.append(flow.record())

    def feed(self, frames: Iterable[Frame], *, batch: int | None = None) -> None:
        """Feed frames, in batches of *batch* or all in one."""
        frames = list(frames)
        size = batch or len(frames) or 1
        for at in range(0, len(frames), size):
            feed_frames(self.engine, frames[at : at + size])

    def finish(self) -> Watched:
        """End every flow for want of frames.

        Raises:
            AssertionError: the engine still holds records after the last flow.
        """
        while self.engine.finish():
            pass
        statistics: dict[str, int] = self.engine.statistics()
        held = {name: n for name, n in statistics.items() if name.startswith("held.") and n}
        assert not held, f"still held after the last flow: {held}"
        streams = []
        if self._level is Level.STREAM:
            streams = [(_read(c.client), _read(c.server)) for c in self._connections]
        return Watched(records=self.records, streams=streams, setups=self._setups, statistics=statistics)


def _read(stream: Stream) -> HalfSeen:
    """Read a stream that has ended: all of it is there, so the reader never waits."""
    data = bytearray()
    gaps: list[tuple[int, int, str]] = []

    async def read() -> None:
        async for item in stream:
            if isinstance(item, Gap):
                gaps.append((item.offset, item.length, item.reason))
            else:
                data.extend(item)

    error = None
    try:
        read().send(None)
    except StopIteration:
        pass
    except AiomosError as raised:
        error = type(raised).__name__
    return HalfSeen(data=bytes(data), gaps=tuple(gaps), error=error)


def watch(
    frames: Iterable[Frame],
    *,
    level: Level = Level.BYTES,
    midstream: bool = False,
    settings: Settings | None = None,
    batch: int | None = None,
    filter: str = "",  # noqa: A002 - the word of the field
    overlap: Overlap = "first",
    urgent: Urgent = "inline",
) -> Watched:
    """Run an engine over frames, to the end of every flow.

    Args:
        frames: As `Conversation.frames` or `merge` give them.
        level: How much of the flows to follow.
        midstream: Whether to take flows whose SYN was not captured.
        settings: Budgets, time-outs, how frames are read.
        batch: Frames in one batch, None for all in one.
        filter: Which flows.
        overlap: Who wins bytes that two segments share.
        urgent: Whether urgent bytes are part of the streams.

    Raises:
        AssertionError: the engine still holds records after the last flow.
    """
    watcher = Watcher(
        level=level, midstream=midstream, settings=settings, filter=filter, overlap=overlap, urgent=urgent
    )
    watcher.feed(frames, batch=batch)
    return watcher.finish()


def watch_in_batches(frames: Iterable[Frame], **options: Any) -> Watched:
    """Do as `watch` does, with one frame a batch and with all in one, and check that nothing differs.

    Raises:
        AssertionError: what the engine saw depends on the size of its batches.
    """
    frames = list(frames)
    one_by_one = watch(frames, batch=1, **options)
    at_once = watch(frames, **options)
    assert one_by_one == at_once, "frame by frame, and all in one batch, are seen differently"
    return at_once


def walk(frames: Iterable[Frame], **options: Any) -> Iterator[tuple[str, str]]:
    """Tell the states of client and server after each frame, of the flow that opened last.

    Args:
        frames: As `Conversation.frames` gives them.
        **options: As `Watcher` takes them.
    """
    watcher = Watcher(**options)
    for frame in frames:
        watcher.feed([frame])
        flow = watcher.flow
        yield (flow.client.state.name, flow.server.state.name) if flow is not None else NO_CONNECTION
    watcher.finish()
