"""What the kernel stamps by the wall's clock has the time of the run, whenever the wall's clock was set."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

import pytest

from aiomos.testing.packets import ethernet
from aiomos.transport.bridge import Bridge
from aiomos.transport.clock import LiveClock
from aiomos.transport.packet import PacketWatch
from aiomos.transport.transport import Transport
from tests.live.network import COMMAND_SECONDS, Network

SECOND = 1_000_000_000
FRAMES = [ethernet(number.to_bytes(100), ethertype=0x88B5) for number in range(500)]


def receive(transport: Transport, count: int) -> list[int]:
    """Read so many frames; their times."""
    times: list[int] = []
    deadline = time.monotonic() + COMMAND_SECONDS
    while len(times) < count:
        assert time.monotonic() < deadline
        select.select([transport.fileno()], [], [], 1)
        if transport.read_batch():
            times += [frame[0] for frame in transport.batch()]
    return times


@pytest.mark.parametrize("set_by", [0, -10, 7200, -0.25])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "opener",
    [lambda: PacketWatch(["eth0"]), lambda: Bridge("eth0", "eth1"), lambda: Bridge("tap:tap0", "eth0")],
    ids=["watch", "bridge", "tap"],
)
def test_frames_have_the_time_of_the_run(
    network: Network, opener: Callable[[], Transport], when: str, set_by: float
) -> None:
    sender, host = network.host("sender"), network.host("host")
    network.join(sender, "eth0", host, "eth0")
    network.join(sender, "eth1", host, "eth1")
    off = round(set_by * SECOND)
    stepped = 0

    def wall() -> int:
        return time.time_ns() + stepped

    def monotonic() -> int:
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    with host.inside(), opener() as transport:
        if when == "before":  # it was set before the frames came: the run began with what it would show else
            base = time.time_ns() - monotonic() - off
            clock = LiveClock(base, wall=wall, monotonic=monotonic)
        else:  # it is set between their coming and their being read
            clock = LiveClock(wall=wall, monotonic=monotonic)
        transport.clock = clock
        begun = clock.now()
        sending = sender.raw("eth0")
        for frame in FRAMES:
            sending.send(frame)
        if when == "after":
            stepped = off
        times = receive(transport, len(FRAMES))
        assert begun <= times[0]
        assert times == sorted(times)
        assert times[-1] <= clock.now()
        assert transport.now() == pytest.approx(clock.now(), abs=SECOND)
        assert clock.steps == (set_by != 0)
