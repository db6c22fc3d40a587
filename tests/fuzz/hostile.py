"""What must hold whatever the input is: the engine's promises, checked over one run.

Apps watch all traffic. One is called back at each flow's beginning and end; one holds a connection to each flow and
reads its halves when the run is over; one does the same in the merged order, and one in connections that begin
late. One is called back at every event at every hook, its own events included, and looks at all that it is given; one
leaves flows at odd moments; and there may be one that changes everything whenever it is called. No input may raise,
crash, be missing from the counters, leave a record in use, or give two readers different bytes.
"""

import os
import random
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import attrs

from aiomos import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_START,
    CONN_TEARDOWN,
    ERROR,
    FRAME,
    ORPHAN,
    PKT_IN,
    REXMIT,
    STATE_CHANGE,
    TIMEOUT,
    Budgets,
    CaptureError,
    ErrorKind,
    Event,
    Filter,
    Flow,
    Gap,
    Half,
    Hook,
    Level,
    MonitorConnection,
    Occurrence,
    Packet,
    RexmitKind,
    Settings,
    State,
    Stream,
)
from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.transport.captures import open_captures
from aiomos.ude.parameters import CALLBACK_PARAMETERS
from aiomos.ude.user import UserEvent, ude
from tests.fuzz.meddling import Meddler

if TYPE_CHECKING:
    from aiomos.transport.source import FrameSource

Overlap = Literal["first", "last", "bsd", "linux", "windows", "solaris"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
Frame = tuple[int, bytes, int, int]
"""Time in nanoseconds, bytes captured, LINKTYPE_ number, length on the wire."""

Halves = dict[str, list[tuple[int, bytes | int]]]
"""What was read of each half: offset and bytes, or offset and length of a gap."""

BOUNDLESS = 1 << 60
TIGHT = Budgets(flows=4, half_open=2, held_bytes=8192, held_bytes_half=2048, fragment_bytes=4096)


def _facts(cls: type, *others: str) -> list[str]:
    """Name what an object says of itself, as against what can be done with it."""
    return [
        name
        for name in vars(cls)
        if not name.startswith("_") and not callable(getattr(cls, name)) and name not in others
    ]


OF_A_PACKET = _facts(Packet, "dpkt", "out_interface")
OF_A_FLOW = _facts(Flow)
OF_A_HALF = _facts(Half)
PEEKED = 4096
"""Most bytes looked at in one stretch."""
RESULTS = {"fin", "rst", "timeout", "evicted", "end_of_capture"}


@attrs.frozen
class Choices:
    """How an input is run.

    Attributes:
        decapsulate: Whether tunnels are looked into.
        separate: Whether they separate flows.
        verify: Whether checksums are verified.
        tight: Whether budgets are so small that they are met all the time.
        midstream: Whether flows without a SYN are followed.
        overlap: Whose bytes count where segments overlap.
        batch: Frames fed at once.
        watched: Whether there are callbacks for everything, which takes most of the time.
        meddling: Seed of what an app does that changes everything while it is called; None for no such app.
    """

    decapsulate: bool = True
    separate: bool = False
    verify: bool = False
    tight: bool = False
    midstream: bool = True
    overlap: Overlap = "first"
    batch: int = 64
    watched: bool = True
    meddling: int | None = None

    def settings(self) -> Settings:
        """Make the engine's settings."""
        return Settings(
            budgets=TIGHT if self.tight else Budgets(),
            checksums="verify" if self.verify else "ignore",
            decapsulate=self.decapsulate,
            separate_tunnels=self.separate,
            on_error="raise",
        )


class HostileRun:
    """One engine with all its watchers; feed `engine`, then call `finish`."""

    def __init__(self, choices: Choices) -> None:
        self.engine = Engine(choices.settings(), bytes(16), _fail)
        self._pressure = Pressure(BOUNDLESS, BOUNDLESS)
        self._apart: list[MonitorConnection] = []
        self._merged: list[MonitorConnection] = []
        self._late: list[MonitorConnection] = []
        self._everything = Filter("").program
        self._how: Any = {"midstream": choices.midstream, "overlap": choices.overlap}
        self._watcher = self.engine.add_account("watches")
        rule = self.engine.add_rule(self._everything, Level.BYTES, account=self._watcher, **self._how)
        self.engine.add_call(rule, CONN_SETUP, Hook.RECEIVER, check_flow, ("flow",))
        self.engine.add_call(rule, CONN_TEARDOWN, Hook.RECEIVER, check_ended_flow, ("flow",))
        for connections in (self._apart, self._merged):
            self.engine.add_rule(
                self._everything, Level.STREAM, opener=self._opener(connections), **self._how
            )
        if choices.watched:
            self._start_late()
            self._look_at_everything()
            self._leave_at_odd_moments()
        self.meddler = None
        if choices.meddling is not None:
            self.meddler = Meddler(self.engine, random.Random(choices.meddling))

    def _start_late(self) -> None:
        """Give connections to whoever waits for an event, user-defined or not."""
        for event in (found(), CONN_SETUP):
            rule = self.engine.add_rule(self._everything, Level.STREAM, keeps=True, **self._how)
            self.engine.start_at(rule, event, self._opener(self._late))

    def _look_at_everything(self) -> None:
        """Wait for every event at every hook, and for some upon them."""
        account = self.engine.add_account("looks")
        kept = self.engine.add_rule(self._everything, Level.STREAM, account=account, keeps=True, **self._how)
        unbound = self.engine.add_rule(
            self._everything, Level.STATE, account=account, unbound=True, midstream=True
        )
        for event in (*Event, *everything()):
            for hook in event.hooks:
                free = hook is Hook.RAW or event is ORPHAN
                rule = unbound if free else kept
                self.engine.add_call(rule, event, hook, look, CALLBACK_PARAMETERS, edits=False)
        self.engine.add_call(kept, CONN_START, Hook.RECEIVER, set_timers, ("flow",))
        self.engine.add_call(kept, TIMEOUT, Hook.RECEIVER, set_timers, ("flow",))

    def _leave_at_odd_moments(self) -> None:
        """Watch flows no more in the middle of any event."""
        account = self.engine.add_account("leaves")
        rule = self.engine.add_rule(self._everything, Level.STREAM, account=account, keeps=True, **self._how)
        for number, event in enumerate(Event):
            if event not in (FRAME, ORPHAN):
                hook = event.hooks[number % len(event.hooks)]
                hook = Hook.RECEIVER if hook is Hook.RAW else hook
                self.engine.add_call(rule, event, hook, Leaver(number), ("flow",))

    def _opener(self, connections: list[MonitorConnection]) -> Any:
        def open_connection(flow: Flow) -> MonitorConnection:
            connection = MonitorConnection(flow, self._pressure, self.engine.released, "mark")
            connections.append(connection)
            return connection

        return open_connection

    def check_count(self) -> None:
        """Check that every flow of the table is counted for an app that watches all."""
        flows = self.engine.count_flows([self._watcher])[0]
        assert flows == self.engine.statistics()["open"] or not self._how["midstream"]

    def finish(self, frames: int) -> None:
        """Let the frames run out, read all there is to read, and check what must hold then.

        Args:
            frames: How many were fed.
        """
        self.check_count()
        while self.engine.finish():
            self.check_count()
        assert self.engine.count_flows([self._watcher]) == [0]
        if self.meddler is not None:
            self.meddler.end()
        known: dict[Any, list[Halves]] = {}
        for apart, merged in zip(self._apart, self._merged, strict=True):
            read = read_halves(apart)
            assert read_merged(merged) == read, f"{apart.flow}: the merged reader got other bytes"
            known.setdefault((apart.flow.key, apart.flow.started), []).append(read)
        for late in self._late:  # of two flows with the same ends and beginning, one must do
            read = read_halves(late)
            candidates = known[late.flow.key, late.flow.started]
            assert any(agree(read, other) for other in candidates), (
                f"{late.flow}: a late reader got other bytes"
            )
        counters = self.engine.statistics()
        assert counters["frames"] == frames
        held = {name: n for name, n in counters.items() if name.startswith("held.") and n}
        assert not held, f"still in use after the last flow: {held}"
        assert counters["open"] == 0


def check_flow(flow: Flow) -> None:
    """Check what is always true of a flow's record."""
    record = flow.record()
    assert record["end"] >= record["start"]
    for side in ("client_", "server_"):
        assert record[f"{side}state"] is not None
        assert record[f"{side}stream_bytes"] <= record[f"{side}bytes"]
        assert record[f"{side}rtt"] is None or record[f"{side}rtt"] >= 0
        assert record[f"{side}lost"] >= 0
    repr((flow, flow.client, flow.server))


def check_ended_flow(flow: Flow) -> None:
    """Check what is true of a flow at its end."""
    check_flow(flow)
    assert flow.reason in RESULTS


@cache
def everything() -> list[UserEvent]:
    """Define events upon most of those that there are, and others upon them; any number of engines can share them."""
    users = [
        ude(PKT_IN)(lambda pkt, half: half is not None and pkt.payload_len > 0),
        ude(PKT_IN)(lambda pkt: odd(pkt.length)),
        ude(REXMIT)(lambda half, pkt: half.peek(0, 4) == pkt.payload[:4]),
        ude(ERROR)(lambda: True),
        ude(STATE_CHANGE)(lambda flow: flow.client.state == flow.server.state),
        ude(CONN_TEARDOWN)(lambda flow: flow.reason == "fin"),
    ]
    users += [ude(user)(lambda side: side == "client") for user in users]
    return users


@cache
def found() -> UserEvent:
    """Define an event for which handlers wait."""
    return ude(CONN_NEW_DATA)(lambda half: half.peek(0, 2) != b"GE")


def odd(number: int) -> bool:
    """As its name says; what a predicate that needs the interpreter calls."""
    return number % 2 == 1


def set_timers(flow: Flow) -> None:
    """Set two timers and give up one of them."""
    flow.timer(1)
    flow.timer(0.5, check_flow)
    flow.timer(0.25).cancel()


class Leaver:
    """Stops to watch one flow in five."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, flow: Flow) -> None:
        """Stop, or not."""
        if (flow.client.port + flow.client.packets + self.number) % 5 == 0:
            flow.stop()


def look(
    pkt: Packet | None,
    flow: Flow | None,
    half: Half | None,
    side: str,
    time: float,
    event: Occurrence,
    engine: None,
) -> None:
    """Look at all that a callback is given, and check that it agrees."""
    assert engine is None  # no runtime runs it
    assert (event.side, event.time, event.flow, event.packet) == (side, time, flow, None)
    assert event.kind is None or event.kind in (*ErrorKind, *RexmitKind)
    assert (event.before is None) == (event.after is None)
    assert event.before is None or (event.before is not event.after and event.after in set(State))
    assert (event.offset is None) == (event.length is None)
    if pkt is not None:
        look_at_packet(pkt)
    if flow is not None and half is not None:
        assert half == flow.half(side) == event.half
        check_flow(flow)
        for name in OF_A_FLOW:
            getattr(flow, name)
        for one in (flow.client, flow.server):
            look_at_half(one)
        flow.ctx[event.name] = flow.ctx.get(event.name, 0) + 1
        if event.event is CONN_NEW_DATA:
            assert event.offset is not None
            assert event.length is not None
            assert event.length > 0
            assert event.offset + event.length <= half.stream_offset


def look_at_packet(pkt: Packet) -> None:
    copy = pkt.copy()
    for name in OF_A_PACKET:
        assert getattr(pkt, name) == getattr(copy, name), name
    repr(pkt)
    if pkt.payload is not None:
        assert len(pkt.payload) <= pkt.payload_len


def look_at_half(half: Half) -> None:
    for name in OF_A_HALF:
        getattr(half, name)
    before = -1
    for start, end in half.held:
        assert before < start < end
        before = end
        assert len(half.peek(start, PEEKED)) == min(end - start, PEEKED)


def read_halves(connection: MonitorConnection) -> Halves:
    """Read both halves of a connection that has ended."""
    return {"client": read_half(connection.client), "server": read_half(connection.server)}


def agree(some: Halves, others: Halves) -> bool:
    """Whether two readers have the same bytes where both have any."""
    for side, items in some.items():
        for at, data in items:
            for other_at, other in others[side]:
                if isinstance(data, bytes) and isinstance(other, bytes):
                    start, end = max(at, other_at), min(at + len(data), other_at + len(other))
                    if (
                        start < end
                        and data[start - at : end - at] != other[start - other_at : end - other_at]
                    ):
                        return False
    return True


def read_half(stream: Stream) -> list[tuple[int, bytes | int]]:
    """Read a half that has ended: ``(offset, bytes)``, or ``(offset, length)`` of a gap; runs are joined."""
    return _joined(_items(stream))


def read_merged(connection: MonitorConnection) -> Halves:
    """Read both halves of a connection that has ended, in the order in which they became readable."""
    halves: dict[str, list[Any]] = {"client": [], "server": []}
    for side, item in _items(connection):
        halves[side].append(item)
    return {side: _joined(items) for side, items in halves.items()}


def _items(reader: Any) -> Iterator[Any]:
    """Take what an async iterator has; its flow has ended, so that it never waits."""
    while True:
        try:
            next(reader.__anext__())
        except StopIteration as taken:
            yield taken.value
        except (StopAsyncIteration, OSError):  # the end; resets, time-outs and evictions are OSErrors
            return
        else:
            raise AssertionError(f"{reader!r} waits although its flow has ended")


def _joined(items: Iterable[Any]) -> list[tuple[int, bytes | int]]:
    joined: list[tuple[int, bytes | int]] = []
    end = None
    for item in items:
        length = item.length if isinstance(item, Gap) else len(item)
        assert length > 0
        assert end is None or item.offset == end, (
            f"item at offset {item.offset} behind one that ends at {end}"
        )
        end = item.offset + length
        if isinstance(item, Gap):
            joined.append((item.offset, length))
        elif joined and isinstance(previous := joined[-1][1], bytes):
            joined[-1] = (joined[-1][0], previous + bytes(item))
        else:
            joined.append((item.offset, bytes(item)))
    return joined


def check_frames(frames: list[Frame], choices: Choices) -> None:
    """Run frames through an engine and check its promises."""
    run = HostileRun(choices)
    for at in range(0, len(frames), choices.batch):
        feed_frames(run.engine, frames[at : at + choices.batch])
        run.check_count()
    run.finish(len(frames))


def check_capture(data: bytes, choices: Choices) -> None:
    """Run the bytes of a capture file, be they what they may, and check the promises of reader and engine."""
    descriptor = os.memfd_create("capture")
    try:
        os.write(descriptor, data)
        run = HostileRun(choices)
        try:
            with open_captures([f"/proc/self/fd/{descriptor}"]) as source:
                frames = _feed_all(run.engine, source)
        except CaptureError as error:
            frames = error.frames
        run.finish(frames)
    finally:
        os.close(descriptor)


def _feed_all(engine: Engine, source: "FrameSource") -> int:
    while source.read_batch():
        engine.feed(source)
    return source.frames_read


def read_frames(path: str | os.PathLike[str]) -> list[Frame]:
    """Read the frames of a capture; of a broken one, those before the break."""
    frames: list[Frame] = []
    try:
        with open_captures([path]) as source:
            frames.extend(source)
    except CaptureError:
        pass
    return frames


def _fail(_callback: object, _flow: Flow, error: Exception) -> NoReturn:
    raise error
