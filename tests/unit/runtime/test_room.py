"""A wire that takes little: frames of one's own wait for room, in order; those that pass are dropped and counted."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from typing import Any

import pytest

from aiomos import App, Runtime, Settings, serve
from aiomos.engine.engine import Engine
from aiomos.testing.packets import udp_frame
from aiomos.transport.interfaces import Interface
from aiomos.transport.sim import Network, Node
from aiomos.transport.transport import Transport
from tests.traffic import Loop, in_loop

MOST_QUEUED, MOST_QUEUED_BYTES = 4096, 4 << 20
LOOPS: list[Loop] = ["asyncio", "uvloop"]


def numbered(number: int, size: int = 4) -> bytes:
    return udp_frame(payload=number.to_bytes(4, "big").ljust(size, b"\0"))


class Narrow(Transport):
    """Two ends in line; by which of them frames leave now is the test's to say.

    Attributes:
        room: By interface, whether a frame that is offered now is taken.
        sent: What has left by each.
        offered: How often a frame was offered.
    """

    forwards = (1, 0)

    def __init__(self) -> None:
        self.room: list[Callable[[], bool]] = [lambda: True, lambda: True]
        self.sent: list[list[bytes]] = [[], []]
        self.offered = [0, 0]
        self.waiting: list[tuple[int, bytes, int]] = []
        self.event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.interfaces.extend(Interface("", f"end{number}", 1, 0) for number in range(2))

    def fileno(self) -> int:
        return self.event

    def give(self, *frames: tuple[bytes, int]) -> None:
        """Have frames come in."""
        self.waiting.extend((time.time_ns(), frame, interface) for frame, interface in frames)
        os.eventfd_write(self.event, 1)

    def receive(self) -> list[tuple[int, bytes, int]]:
        frames, self.waiting = self.waiting, []
        if frames:
            os.eventfd_read(self.event)
        return frames

    def send(self, frame: bytes, interface: int = 0) -> bool:
        self.offered[interface] += 1
        if not self.room[interface]():
            return False
        self.sent[interface].append(frame)
        return True

    def close(self) -> None:
        if self.event >= 0:
            os.close(self.event)
            self.event = -1
        super().close()


class Messages(Narrow):
    """The same, whose interface 1 is a socket with little room, and tells when it has some."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for sock in (self.near, self.far):
            sock.setblocking(False)
        self.asked: list[int] = []

    def send(self, frame: bytes, interface: int = 0) -> bool:  # noqa: ARG002 - only one is used
        try:
            self.near.send(frame)
        except BlockingIOError:
            return False
        return True

    def write_fileno(self, interface: int) -> int:
        self.asked.append(interface)
        return self.near.fileno()

    def close(self) -> None:
        self.near.close()
        self.far.close()
        super().close()


def one_at_a_time() -> Callable[[], bool]:
    """Take every other frame that is offered: one, and the next one when it is offered again."""
    takes = False

    def room() -> bool:
        nonlocal takes
        takes = not takes
        return takes

    return room


def running(
    wire: Transport, act: Callable[[Runtime], Coroutine[Any, Any, None]], loop: Loop
) -> dict[str, int]:
    """Run over a wire while something is done; the counters."""
    tasks: list[asyncio.Task[None]] = []

    async def acting(runtime: Runtime) -> None:
        try:
            await act(runtime)
        finally:
            runtime.stop()

    async def main() -> dict[str, int]:
        report = await serve(
            App("nothing"),
            transport=wire,
            settings=Settings(on_error="raise"),
            started=lambda runtime: tasks.append(asyncio.create_task(acting(runtime))),
        )
        await tasks[0]
        return report.counters

    return in_loop(main(), loop)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.001)


# --- in the event loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_frames_leave_one_at_a_time_in_order_and_once(loop: Loop) -> None:
    wire = Narrow()
    wire.room[1] = one_at_a_time()
    frames = [numbered(number) for number in range(100)]

    async def act(runtime: Runtime) -> None:
        for frame in frames[:60]:
            runtime.send(frame, 1)
        await until(lambda: len(wire.sent[1]) >= 5)
        for frame in frames[60:]:
            runtime.send(frame, 1)
        await until(lambda: len(wire.sent[1]) == len(frames))

    counters = running(wire, act, loop)
    assert wire.sent == [[], frames]
    assert counters["in_line.originated"] == 100
    assert counters["in_line.delayed"] == 99
    assert (counters["in_line.queued_frames"], counters["in_line.queued_bytes"]) == (0, 0)
    assert counters["in_line.no_room"] == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_descriptor_tells_when_there_is_room(loop: Loop) -> None:
    """The loop waits for it only while there is none; nothing is tried in vain meanwhile."""
    wire = Messages()
    frames = [numbered(number, 1000) for number in range(500)]
    got: list[bytes] = []

    async def act(runtime: Runtime) -> None:
        for frame in frames:
            runtime.send(frame, 1)
        await until(lambda: runtime.statistics()["in_line.queued_frames"] > 0)
        asked = len(wire.asked)
        await asyncio.sleep(0.02)
        assert len(wire.asked) == asked
        while len(got) < len(frames):
            got.append(await asyncio.wait_for(asyncio.get_running_loop().sock_recv(wire.far, 65536), 5))
        asked = len(wire.asked)
        runtime.send(frames[0], 1)
        assert await asyncio.get_running_loop().sock_recv(wire.far, 65536) == frames[0]
        assert len(wire.asked) == asked

    counters = running(wire, act, loop)
    assert got == frames
    assert set(wire.asked) == {1}
    assert 0 < counters["in_line.delayed"] < len(frames)
    assert counters["in_line.queued_frames"] == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_wire_takes_none_for_a_while_and_then_all(loop: Loop) -> None:
    wire = Narrow()
    has_room = False
    wire.room[1] = lambda: has_room
    frames = [numbered(number) for number in range(300)]

    async def act(runtime: Runtime) -> None:
        nonlocal has_room
        for frame in frames:
            runtime.send(frame, 1)
        await until(lambda: wire.offered[1] >= 10)
        assert wire.sent[1] == []
        runtime.send(numbered(1000), 0)  # the other interface is not held up
        await until(lambda: bool(wire.sent[0]))
        assert runtime.statistics()["in_line.queued_frames"] == 300
        has_room = True
        await until(lambda: len(wire.sent[1]) == len(frames))

    counters = running(wire, act, loop)
    assert wire.sent == [[numbered(1000)], frames]
    assert counters["in_line.delayed"] == 300


@pytest.mark.parametrize("loop", LOOPS)
def test_what_waits_at_the_end_of_a_run_leaves_if_it_can(loop: Loop) -> None:
    wire = Narrow()
    wire.room[1] = one_at_a_time()

    async def act(runtime: Runtime) -> None:
        for number in range(100):
            runtime.send(numbered(number), 1)

    assert running(wire, act, loop)["in_line.queued_frames"] == 0
    assert wire.sent[1] == [numbered(number) for number in range(100)]


def test_simulation_with_little_room() -> None:
    class Hears(Node):
        def __init__(self) -> None:
            self.heard: list[bytes] = []

        def receive(self, frame: bytes, now_ns: int) -> None:  # noqa: ARG002 - not of interest
            self.heard.append(frame)

    network = Network(seed=1)
    first, second = Hears(), Hears()
    middlebox = network.middlebox(first, second)
    room, send = one_at_a_time(), middlebox.send
    middlebox.send = lambda frame, interface=0: send(frame, interface) if room() else False  # type: ignore[method-assign, func-returns-value]
    app = App("sends")

    @app.startup
    def start(engine: Runtime) -> None:
        for number in range(20):
            engine.send(numbered(number), 1)

    report = in_loop(serve(app, transport=middlebox, settings=Settings(on_error="raise")), "asyncio")
    assert second.heard == [numbered(number) for number in range(20)]
    assert report.counters["in_line.delayed"] == 19


# --- in the engine ------------------------------------------------------------------------------------


@pytest.fixture
def wire() -> Iterator[Narrow]:
    with closing(Narrow()) as wire:
        yield wire


def engine_at(wire: Narrow) -> Engine:
    engine = Engine(Settings(), bytes(16), lambda *_: None)
    engine.open(wire.forwards, [interface.name for interface in wire.interfaces])
    return engine


def pass_batch(engine: Engine, wire: Narrow, *frames: tuple[bytes, int]) -> bool:
    wire.give(*frames)
    assert wire.read_batch()
    engine.feed(wire)
    return engine.flush(wire)


def test_what_passes_a_full_wire_is_dropped_and_not_offered_again(wire: Narrow) -> None:
    """A wire may lose single frames: a few are tried, and then no more in this flush."""
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    frames = [(numbered(number), 0) for number in range(100)]
    back = [(numbered(1000 + number), 1) for number in range(3)]
    assert pass_batch(engine, wire, *frames[:50], *back, *frames[50:])
    assert wire.sent == [[frame for frame, _ in back], []]
    assert wire.offered[1] == 8
    wire.room[1] = lambda: True
    assert not engine.flush(wire)
    assert wire.sent[1] == []
    assert not pass_batch(engine, wire, *frames[:2])
    assert wire.sent[1] == [numbered(0), numbered(1)]
    counters = engine.statistics()
    assert (counters["in_line.forwarded"], counters["in_line.delayed"], counters["in_line.no_room"]) == (
        105,
        0,
        0,
    )


def test_wire_that_loses_one_frame_has_those_after_it(wire: Narrow) -> None:
    engine = engine_at(wire)
    answers = iter([True, False, True, True])
    wire.room[1] = lambda: next(answers)
    pass_batch(engine, wire, *((numbered(number), 0) for number in range(4)))
    assert wire.sent[1] == [numbered(0), numbered(2), numbered(3)]


def test_nothing_that_passes_overtakes_what_waits(wire: Narrow) -> None:
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    engine.send(numbered(0), 1, 1)
    engine.send(numbered(1), 1, 1)
    assert engine.flush(wire)
    assert engine.short == (1,)
    room = [True, False]  # for the first that waits, and no more
    wire.room[1] = lambda: room.pop(0) if room else False
    assert pass_batch(engine, wire, (numbered(10), 0), (numbered(20), 1))
    assert wire.sent == [[numbered(20)], [numbered(0)]]
    wire.room[1] = lambda: True
    engine.send(numbered(2), 1, 1)
    assert not pass_batch(engine, wire, (numbered(11), 0))
    assert wire.sent[1] == [numbered(0), numbered(1), numbered(2), numbered(11)]
    assert engine.short == ()


def test_what_waits_is_bounded_in_frames(wire: Narrow) -> None:
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    for number in range(MOST_QUEUED + 10):
        engine.send(numbered(number), 1, 1)
    assert engine.flush(wire)
    counters = engine.statistics()
    assert (counters["in_line.queued_frames"], counters["in_line.no_room"]) == (MOST_QUEUED, 10)
    assert counters["in_line.queued_bytes"] == MOST_QUEUED * len(numbered(0))
    assert wire.offered[1] == 1
    wire.room[1] = lambda: True
    assert not engine.flush(wire)
    assert wire.sent[1] == [numbered(number) for number in range(MOST_QUEUED)]


def test_what_waits_is_bounded_in_bytes(wire: Narrow) -> None:
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    size = len(numbered(0, 60_000))
    for number in range(100):
        engine.send(numbered(number, 60_000), 1, 1)
    engine.flush(wire)
    counters = engine.statistics()
    fit = MOST_QUEUED_BYTES // size
    assert (counters["in_line.queued_frames"], counters["in_line.queued_bytes"]) == (fit, fit * size)
    assert counters["in_line.no_room"] == 100 - fit


def test_credit(wire: Narrow) -> None:
    engine = engine_at(wire)
    line = engine.line
    assert line.room(0) == line.room(1) == (MOST_QUEUED, MOST_QUEUED_BYTES)
    assert line.room(2) == (0, 0)  # there is no such interface
    engine.send(numbered(0), 1, 1)
    assert line.room(1) == (MOST_QUEUED - 1, MOST_QUEUED_BYTES - len(numbered(0)))
    engine.flush(wire)
    assert line.room(1) == (MOST_QUEUED, MOST_QUEUED_BYTES)
    wire.room[1] = lambda: False
    engine.send(numbered(1), 1, 1)
    engine.flush(wire)
    assert (line.room(0), line.room(1)) == ((MOST_QUEUED, MOST_QUEUED_BYTES), (0, 0))
    wire.room[1] = lambda: True
    engine.flush(wire)
    assert line.room(1) == (MOST_QUEUED, MOST_QUEUED_BYTES)


@pytest.mark.parametrize("size", [4, 60_000])
def test_credit_ends_where_what_waits_is_full(wire: Narrow, size: int) -> None:
    """In frames or in bytes, whichever comes first; then there is neither, however much more is sent."""
    engine = engine_at(wire)
    length = len(numbered(0, size))
    most = min(MOST_QUEUED, MOST_QUEUED_BYTES // length)
    for number in range(most + 2):
        left = MOST_QUEUED - number, MOST_QUEUED_BYTES - number * length
        assert engine.line.room(1) == (left if min(left) > 0 else (0, 0))
        engine.send(numbered(number, size), 1, 1)
    assert engine.line.room(1) == (0, 0)
    assert not engine.flush(wire)
    assert len(wire.sent[1]) == most + 2


def test_all_that_is_sent_within_the_credit_is_kept(wire: Narrow) -> None:
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    sent = 0
    while (room := engine.line.room(1))[0] and room[1] >= len(numbered(0, 1400)):
        engine.send(numbered(sent, 1400), 1, 1)
        sent += 1
    engine.flush(wire)
    counters = engine.statistics()
    assert (counters["in_line.queued_frames"], counters["in_line.no_room"]) == (sent, 0)
    assert sent == MOST_QUEUED_BYTES // len(numbered(0, 1400))


def test_who_asked_a_full_wire_for_room_has_it_looked_at_again(wire: Narrow) -> None:
    """Though nothing waits: what found it full has passed."""
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    assert pass_batch(engine, wire, *((numbered(number), 0) for number in range(20)))
    assert engine.short == ()
    assert engine.line.room(1) == (0, 0)
    assert engine.short == (1,)
    assert not engine.flush(wire)
    assert engine.line.room(1) == (MOST_QUEUED, MOST_QUEUED_BYTES)


def test_what_a_wire_raises_loses_its_batch_and_no_more(wire: Narrow) -> None:
    engine = engine_at(wire)
    wire.room[1] = lambda: False
    engine.send(numbered(0), 1, 1)
    engine.flush(wire)

    def broken() -> bool:
        raise OSError("broken")

    wire.room[1] = broken
    engine.send(numbered(1), 1, 1)
    with pytest.raises(OSError, match="broken"):
        engine.flush(wire)
    wire.room[1] = lambda: True
    engine.send(numbered(2), 1, 1)
    engine.flush(wire)
    assert wire.sent[1] == [numbered(2)]
    assert engine.line.queued == (0, 0)


def test_select_is_not_asked_of_a_wire_with_room() -> None:
    """An eventfd that nobody reads is writable for ever: the loop would turn without end."""
    wire = Messages()

    async def act(runtime: Runtime) -> None:
        runtime.send(numbered(0), 1)
        await until(lambda: bool(select.select([wire.far], [], [], 0)[0]))

    running(wire, act, "asyncio")
    assert wire.asked == []
