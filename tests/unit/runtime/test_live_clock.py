"""The clock of a live run: what is done to the wall's clock ends nothing, holds nothing up, and no time runs back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from aiomos import CONN_SETUP, CONN_TEARDOWN, App, Flow, Runtime, Settings, Timeouts, serve
from aiomos.transport.clock import LiveClock
from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from tests.traffic import in_loop
from tests.unit.runtime.test_live_pump import ACK, HELLO, SYN, SYN_ACK, Sockets, open_connection

SECOND = 1_000_000_000
NOON = 1_800_000_000 * SECOND
"""What the wall's clock shows when the run begins; the monotonic one shows 1000 s."""


class Clocks:
    """A wall's clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.passed_ns = 0
        self.set_by_ns = 0

    def wall(self) -> int:
        """Return the wall's time."""
        return NOON + self.passed_ns + self.set_by_ns

    def monotonic(self) -> int:
        """Return the monotonic time."""
        return 1000 * SECOND + self.passed_ns

    def clock(self) -> LiveClock:
        """Return the clock of a run that begins now."""
        return LiveClock(wall=self.wall, monotonic=self.monotonic)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.passed_ns += round(seconds * SECOND)

    def step(self, seconds: float) -> None:
        """Set the wall's clock."""
        self.set_by_ns += round(seconds * SECOND)


class Queue(Transport):
    """Frames that wait, with the wall's time at which they came."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.clock = clocks.clock()
        self.interfaces.extend(Interface("", f"queue{number}", 1, 0) for number in (0, 1))
        self.waiting: list[tuple[int, bytes, int]] = []

    def fileno(self) -> int:
        """Have none: nobody waits for it."""
        return -1

    def come(self, frame: bytes = SYN, interface: int = 0) -> None:
        """Have a frame come in."""
        self.waiting.append((self.clocks.wall(), frame, interface))

    def receive(self) -> list[tuple[int, bytes, int]]:
        """Return what has come."""
        frames, self.waiting = self.waiting, []
        return frames

    def times(self) -> list[float]:
        """Read a batch; seconds since the run began."""
        self.read_batch()
        return [(frame[0] - NOON) / SECOND for frame in self.batch()]


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def queue(clocks: Clocks) -> Queue:
    return Queue(clocks)


# --- times of frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-10, -0.5, 0.5, 7200, -7200])
def test_frames_before_and_after_a_step_have_the_times_at_which_they_came(
    clocks: Clocks, queue: Queue, step: float
) -> None:
    queue.come()
    clocks.pass_time(0.25)
    queue.come()
    assert queue.times() == [0, 0.25]
    clocks.pass_time(0.25)
    queue.come()
    clocks.pass_time(0.125)
    clocks.step(step)
    queue.come()
    clocks.pass_time(0.125)
    assert queue.times() == [0.5, 0.625]
    queue.come()
    assert queue.times() == [0.75]
    assert queue.now() == NOON + round(0.75 * SECOND)
    assert queue.clock is not None
    assert queue.clock.steps == 1


def test_steps_back_and_forth_are_all_undone(clocks: Clocks, queue: Queue) -> None:
    random.seed(9)
    for n in range(1, 201):
        clocks.pass_time(1)
        clocks.step(random.choice([-3600, -10, -1, 0, 0, 1, 10, 7200]))
        queue.come()
        assert queue.times() == [n]


def test_a_clock_that_is_slewed_is_no_step(clocks: Clocks, queue: Queue) -> None:
    for n in range(1, 1001):
        clocks.pass_time(1)
        clocks.step(500e-6 if n < 500 else -0.08)  # as the kernel slews, and as chrony does at most
        queue.come()
        assert queue.times() == [n]
    assert queue.clock is not None
    assert queue.clock.steps == 0


def test_no_frame_is_of_the_future_nor_before_one_of_its_interface(clocks: Clocks, queue: Queue) -> None:
    clocks.pass_time(5)
    for wrong, interface in ((-3, 0), (-4, 1), (-4, 0), (-3, 1), (10**9, 0), (-1, 1)):
        queue.waiting.append((clocks.wall() + wrong * SECOND, SYN, interface))
    assert queue.times() == [2, 1, 2, 2, 5, 4]
    queue.waiting.append((0, SYN, 0))
    assert queue.times() == [5]


def test_a_clock_of_the_same_base_tells_the_same_time(clocks: Clocks, queue: Queue) -> None:
    """As that of a worker that is started anew after the clock was set, and finds frames from before."""
    clocks.pass_time(3)
    queue.come()
    clocks.step(-10)
    clocks.pass_time(1)
    queue.come()
    assert queue.clock is not None
    queue.clock = LiveClock(queue.clock.base_ns, wall=clocks.wall, monotonic=clocks.monotonic)
    assert queue.times() == [3, 4]


def test_it_begins_with_the_time_of_the_wall() -> None:
    before = time.time_ns()
    clock = LiveClock()
    assert before - SECOND < clock.now() < time.time_ns() + SECOND
    assert LiveClock(clock.base_ns).now() >= clock.now() - SECOND
    with pytest.raises(TypeError, match="go together"):
        LiveClock(wall=time.time_ns)


def test_a_step_is_logged(clocks: Clocks, queue: Queue) -> None:
    clocks.pass_time(1)
    clocks.step(-10)
    queue.come()
    with capture_logs() as logs:
        assert queue.times() == [1]
    assert [(line["event"], line["seconds"], line["off"]) for line in logs] == [("clock_stepped", -10, -10)]


def test_a_transport_with_another_clock_keeps_its_times(clocks: Clocks) -> None:
    class Other(Queue):
        def now(self) -> int:
            return 5

    other = Other(clocks)
    other.clock = None
    other.waiting = [(3, SYN, 0), (2, SYN, 0)]
    other.read_batch()
    assert [frame[0] for frame in other.batch()] == [3, 2]
    assert other.now() == 5
    del Other.now
    nothing = Queue(clocks)
    nothing.clock = None
    with pytest.raises(NotImplementedError, match="no clock"):
        nothing.now()


# --- what goes by it ----------------------------------------------------------------------------------


def follow(
    queue: Queue, act: Callable[[Runtime, Callable[[], None]], None], flows: list[Flow]
) -> list[tuple[Flow, float]]:
    """Have a connection open and something done; its end, if it has one, and when that was told."""
    app: App[Any] = App("notes")
    ended: list[tuple[Flow, float]] = []

    app.on(CONN_SETUP)(lambda flow: flows.append(flow))

    @app.on(CONN_TEARDOWN)
    def end(flow: Flow, time: float) -> None:
        ended.append((flow, time))

    settings = Settings(timeouts=Timeouts(established=60), on_error="raise")

    async def main() -> None:
        async with Runtime(transport=queue, settings=settings) as runtime:
            await runtime.attach(app)

            def feed() -> None:
                if queue.read_batch():
                    runtime.engine.feed(queue)
                runtime.engine.pass_time(queue.now())

            queue.come()
            queue.come(SYN_ACK, 1)
            queue.come(ACK)
            feed()
            act(runtime, feed)

    in_loop(main(), "asyncio")
    return ended


@pytest.mark.parametrize("step", [-10, 7200, -7200])
def test_time_outs_pass_as_if_nothing_were_set(clocks: Clocks, queue: Queue, step: float) -> None:
    open_at: list[int] = []

    def act(runtime: Runtime, feed: Callable[[], None]) -> None:
        clocks.pass_time(30)
        clocks.step(step)
        queue.come(HELLO)
        feed()
        for _ in range(70):
            clocks.pass_time(1)
            feed()
            open_at.append(len(list(runtime.flows())))

    ((flow, when),) = follow(queue, act, [])
    assert flow.reason == "timeout"
    assert open_at.index(0) + 1 in (60, 61)
    assert 90 <= when - NOON / SECOND <= 91
    assert flow.started == NOON / SECOND
    assert flow.last == NOON / SECOND + 30


@pytest.mark.parametrize("step", [-10, 7200])
def test_timers_of_flows_run_out_when_they_should(clocks: Clocks, queue: Queue, step: float) -> None:
    called: list[float] = []

    def act(runtime: Runtime, feed: Callable[[], None]) -> None:
        (flow,) = flows
        flow.timer(20, lambda _: called.append(runtime.now - NOON / SECOND))
        for seconds in range(1, 30):
            if seconds == 5:
                clocks.step(step)
            clocks.pass_time(1)
            queue.come(HELLO)
            feed()

    flows: list[Flow] = []
    follow(queue, act, flows)
    assert called == [20]


@pytest.mark.parametrize("step", [-10, 7200])
def test_the_pump_wakes_sleepers_and_timers_in_time(step: float) -> None:
    """In the event loop, whose own time is real."""
    wire = Sockets()
    set_by = 0

    def wall() -> int:
        return time.monotonic_ns() + set_by

    wire.clock = LiveClock(wall=wall, monotonic=time.monotonic_ns)
    app: App[Any] = App("waits")
    slept: list[float] = []
    rang: list[float] = []

    @app.on(CONN_SETUP)
    def set_timer(flow: Flow) -> None:
        flow.timer(0.04, ring)

    def ring(time: float) -> None:
        rang.append(time)

    async def act(runtime: Runtime) -> None:
        nonlocal set_by
        try:
            began = runtime.now
            await open_connection(wire)
            sleeping = asyncio.ensure_future(runtime.sleep(0.05))
            await asyncio.sleep(0)
            set_by = round(step * SECOND)
            await asyncio.wait_for(sleeping, 5)
            slept.append(runtime.now - began)
            await asyncio.wait_for(runtime.sleep(0.01), 5)
            assert len(list(runtime.flows())) == 1
        finally:
            runtime.stop()

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        wire_receive = wire.receive

        def receive() -> list[tuple[int, bytes, int]]:
            return [(wall(), frame, interface) for _, frame, interface in wire_receive()]

        wire.receive = receive  # type: ignore[method-assign]
        await serve(
            app,
            transport=wire,
            settings=Settings(on_error="raise"),
            started=lambda runtime: tasks.append(asyncio.create_task(act(runtime))),
        )
        await tasks[0]

    in_loop(main(), "asyncio")
    assert 0.05 <= slept[0] < 5
    assert len(rang) == 1


@pytest.mark.parametrize("wild", [2**63 - 1, 2**62, 2**80, -(2**63), -(2**80)])
def test_a_time_beyond_all_bounds_is_brought_within_them(clocks: Clocks, wild: int) -> None:
    """Of a transport in Python, whether it has a clock or not."""
    wire = Queue(clocks)
    wire.waiting = [(wild, SYN, 0), (clocks.wall(), SYN, 0)]
    wire.read_batch()
    first, second = (frame[0] for frame in wire.batch())
    assert -(2**62) < first <= second == NOON
    wire.clock = None
    wire.waiting = [(wild, SYN, 0)]
    wire.read_batch()
    assert [frame[0] for frame in wire.batch()] == [2**62 - 1 if wild > 0 else 1 - 2**62]
