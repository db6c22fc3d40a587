"""What must hold whatever the input is: the engine's promises, checked over one run.

Three rules watch all traffic. One is called back at each flow's beginning and end; one holds a connection to
each flow and reads its halves when the run is over; one does the same in the merged order. No input may raise,
crash, be missing from the counters, leave a record in use, or give two readers different bytes.
"""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

import attrs

from aiomos import (
    CONN_SETUP,
    CONN_TEARDOWN,
    Budgets,
    CaptureError,
    Filter,
    Flow,
    Gap,
    Hook,
    Level,
    MonitorConnection,
    Settings,
    Stream,
)
from aiomos.engine import Engine
from aiomos.tcp.streams import Pressure
from aiomos.transport.captures import open_captures

if TYPE_CHECKING:
    from aiomos.transport.source import FrameSource

Overlap = Literal["first", "last", "bsd", "linux", "windows", "solaris"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
Frame = tuple[int, bytes, int, int]
"""Time in nanoseconds, bytes captured, LINKTYPE_ number, length on the wire."""

BOUNDLESS = 1 << 60
TIGHT = Budgets(flows=4, half_open=2, held_bytes=8192, held_bytes_half=2048, fragment_bytes=4096)
RESULTS = {"fin", "rst", "timeout", "evicted", "end_of_capture"}


@attrs.frozen
class Choices:
    """How an input is run.

    Attributes:
        decapsulate: Whether tunnels are looked into.
        verify: Whether checksums are verified.
        tight: Whether budgets are so small that they are met all the time.
        midstream: Whether flows without a SYN are followed.
        overlap: Whose bytes count where segments overlap.
        batch: Frames fed at once.
    """

    decapsulate: bool = True
    verify: bool = False
    tight: bool = False
    midstream: bool = True
    overlap: Overlap = "first"
    batch: int = 64

    def settings(self) -> Settings:
        """Make the engine's settings."""
        return Settings(
            budgets=TIGHT if self.tight else Budgets(),
            checksums="verify" if self.verify else "ignore",
            decapsulate=self.decapsulate,
            on_error="raise",
        )


class HostileRun:
    """One engine with all its watchers; feed `engine`, then call `finish`."""

    def __init__(self, choices: Choices) -> None:
        self.engine = Engine(choices.settings(), bytes(16), _fail)
        self._pressure = Pressure(BOUNDLESS, BOUNDLESS)
        self._apart: list[MonitorConnection] = []
        self._merged: list[MonitorConnection] = []
        everything = Filter("").program
        how: Any = {"midstream": choices.midstream, "overlap": choices.overlap}
        rule = self.engine.add_rule(everything, Level.BYTES, **how)
        self.engine.add_call(rule, CONN_SETUP, Hook.RECEIVER, check_flow, ("flow",))
        self.engine.add_call(rule, CONN_TEARDOWN, Hook.RECEIVER, check_ended_flow, ("flow",))
        for connections in (self._apart, self._merged):
            self.engine.add_rule(everything, Level.STREAM, opener=self._opener(connections), **how)

    def _opener(self, connections: list[MonitorConnection]) -> Any:
        def open_connection(flow: Flow) -> MonitorConnection:
            connection = MonitorConnection(flow, self._pressure, self.engine.released, "mark")
            connections.append(connection)
            return connection

        return open_connection

    def finish(self, frames: int) -> None:
        """Let the frames run out, read all there is to read, and check what must hold then.

        Args:
            frames: How many were fed.
        """
        while self.engine.finish():
            pass
        for apart, merged in zip(self._apart, self._merged, strict=True):
            read = {"client": read_half(apart.client), "server": read_half(apart.server)}
            assert read_merged(merged) == read, f"{apart.flow}: the merged reader got other bytes"
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


def read_half(stream: Stream) -> list[tuple[int, bytes | int]]:
    """Read a half that has ended: ``(offset, bytes)``, or ``(offset, length)`` of a gap; runs are joined."""
    return _joined(_items(stream))


def read_merged(connection: MonitorConnection) -> dict[str, list[tuple[int, bytes | int]]]:
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
        run.engine.feed_frames(frames[at : at + choices.batch])
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
