"""What an answer costs: turns of the event loop from a request to the answer of its handler, and processor time.

::

    python benchmarks/turn_of_the_loop.py
    python benchmarks/turn_of_the_loop.py --requests 40000 --batches 1,64 --loops uvloop

Requests come in batches by a transport in memory, whose descriptor is an eventfd; each is of a connection of its own,
whose handler reads it and sends one frame. The next batch comes once all answers have left. With ``--silent`` there are
no handlers: connections are followed, nobody is woken, and the next batch comes once this one was read. Turns are
counted in a run of their own, since who counts them has a part in each.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Iterator

import attrs

from aiomos import App, MonitorConnection, Runtime, Settings, serve
from aiomos.console.running import loop_factory
from aiomos.testing.packets import tcp_frame
from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"
REQUEST = b"GET / HTTP/1.1\r\n"
ANSWER = tcp_frame(SERVER, CLIENT, 80, 1000, 1, 1, "PA", payload=b"HTTP/1.1 200 OK\r\n")
STEP_NS = 10_000
ETHERNET = 1


def opening(port: int) -> list[bytes]:
    """Open a connection."""
    return [
        tcp_frame(CLIENT, SERVER, port, 80, 0, 0, "S"),
        tcp_frame(SERVER, CLIENT, 80, port, 0, 1, "SA"),
        tcp_frame(CLIENT, SERVER, port, 80, 1, 1, "A"),
    ]


def request(port: int, number: int) -> list[bytes]:
    """Make a request, and its acknowledgement."""
    seq = 1 + number * len(REQUEST)
    return [
        tcp_frame(CLIENT, SERVER, port, 80, seq, 1, "PA", payload=REQUEST),
        tcp_frame(SERVER, CLIENT, 80, port, 1, seq + len(REQUEST), "A"),
    ]


class Memory(Transport):
    """Batches of frames from memory: the next can be read once the one before it has been answered."""

    def __init__(self, batches: list[list[bytes]], answers: int) -> None:
        self.interfaces.append(Interface("", "memory", ETHERNET, 0))
        self.now_ns = time.time_ns()
        self._batches: Iterator[list[bytes]] = iter(batches)
        self._answers = answers
        self._left = 0
        self._ready = os.eventfd(1, os.EFD_NONBLOCK)
        self._is_over = False

    @property
    def ended(self) -> bool:
        """Whether all batches have been read."""
        return self._is_over

    def fileno(self) -> int:
        """Return that of the eventfd."""
        return self._ready

    def now(self) -> int:
        """Return the time of the latest frame."""
        return self.now_ns

    def receive(self) -> list[tuple[int, bytes, int]]:
        """Return the next batch."""
        os.eventfd_read(self._ready)
        frames = []
        for frame in next(self._batches, []):
            self.now_ns += STEP_NS
            frames.append((self.now_ns, frame, 0))
        self._is_over = not frames
        self._left = self._answers
        if not self._left or len(frames) != 2 * self._answers:  # to the openings, too, nobody answers
            os.eventfd_write(self._ready, 1)
        return frames

    def send(self, frame: bytes, interface: int = 0) -> None:  # noqa: ARG002  it goes nowhere
        """Take an answer."""
        self._left -= 1
        if self._left == 0:
            os.eventfd_write(self._ready, 1)

    def close(self) -> None:
        """Close the eventfd."""
        os.close(self._ready)
        super().close()


@attrs.define
class Turns:
    """Counts those of the loop."""

    count: int = 0

    def go_on(self) -> None:
        """Count one, and the next."""
        self.count += 1
        asyncio.get_running_loop().call_soon(self.go_on)


async def measure(batches: list[list[bytes]], batch: int, *, silent: bool, turns: Turns | None) -> float:
    """Run; return processor time, in seconds."""
    app: App[None] = App("echo")

    async def handle(conn: MonitorConnection) -> None:
        async for _ in conn.client:
            runtime.send(ANSWER)

    if silent:
        app.track("port 80")
    else:
        app.monitor("port 80")(handle)

    def start(started: Runtime) -> None:
        nonlocal runtime
        runtime = started
        if turns is not None:
            turns.go_on()

    runtime: Runtime
    transport = Memory(batches, 0 if silent else batch)
    begun = time.process_time()
    await serve(app, transport=transport, settings=Settings(on_error="raise"), started=start, signals=False)
    return time.process_time() - begun


def run(
    loop: str, batches: list[list[bytes]], batch: int, *, silent: bool, turns: Turns | None = None
) -> float:
    """Measure in a loop of that kind."""
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        return runner.run(measure(batches, batch, silent=silent, turns=turns))


def main() -> None:
    """Measure, and print a row for each loop and size of batches."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--batches", default="1,8,64", help="requests that come together")
    parser.add_argument("--loops", default="asyncio,uvloop")
    parser.add_argument("--silent", action="store_true", help="nobody is woken")
    parser.add_argument("--runs", type=int, default=5, help="of which the fastest counts")
    arguments = parser.parse_args()
    print(f"{'loop':10}{'batch':>6}{'turns a batch':>15}{'us a request':>14}")
    for loop in arguments.loops.split(","):
        for batch in map(int, arguments.batches.split(",")):
            rounds = arguments.requests // batch
            ports = range(1000, 1000 + batch)
            batches = [
                [frame for port in ports for frame in opening(port)],
                *([frame for port in ports for frame in request(port, number)] for number in range(rounds)),
            ]
            run(loop, batches, batch, silent=arguments.silent, turns=(turns := Turns()))
            seconds = min(run(loop, batches, batch, silent=arguments.silent) for _ in range(arguments.runs))
            print(f"{loop:10}{batch:>6}{turns.count / rounds:>15.2f}{seconds / rounds / batch * 1e6:>14.2f}")


if __name__ == "__main__":
    main()
