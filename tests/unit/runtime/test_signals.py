"""Signals: handled during a run, for a program that wants that, and afterwards what they were before."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

import aiomos
from aiomos import App, Transport
from aiomos.console.running import loop_factory
from aiomos.runtime.signals import handled
from aiomos.transport.interfaces import Interface

CAPTURE = Path(__file__).parents[2] / "data" / "http.pcap"
NUMBER = signal.SIGUSR2
RUN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Silent(Transport):
    """A wire on which nothing comes."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.interfaces.append(Interface("", "silent0", 1, 0))

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def receive(self) -> list[tuple[int, bytes, int]]:
        return []

    def close(self) -> None:
        for end in self.ends:
            end.close()
        super().close()


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (NUMBER, *RUN_SIGNALS)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Seen:
    """A program's own handler of a signal."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self.times += 1


async def wake(event: asyncio.Event) -> None:
    """Kill from another thread, so that the loop is asleep when it comes, and wait for what it wakes."""
    threading.Timer(0.05, os.kill, (os.getpid(), NUMBER)).start()
    await asyncio.wait_for(event.wait(), 20)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_signal_wakes_a_loop_that_sleeps_and_is_given_back(loop: str) -> None:
    own = Seen()
    signal.signal(NUMBER, own)

    async def main() -> None:
        called = asyncio.Event()
        with handled({NUMBER: called.set}):
            await wake(called)
        assert own.times == 0
        os.kill(os.getpid(), NUMBER)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(main())
    assert signal.getsignal(NUMBER) is own
    assert own.times == 1


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_handler_that_the_program_gave_to_the_loop_is_kept(loop: str) -> None:
    async def main() -> None:
        own, called = asyncio.Event(), asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(NUMBER, own.set)
        with handled({NUMBER: called.set}):
            await wake(called)
        await asyncio.wait_for(own.wait(), 20)
        own.clear()
        await wake(own)

    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(main())


async def test_in_another_thread_nothing_is_touched() -> None:
    def main() -> bool:
        async def inside() -> bool:
            before = signal.getsignal(NUMBER)
            with handled({NUMBER: print}):
                return signal.getsignal(NUMBER) is before

        return asyncio.run(inside())

    assert await asyncio.to_thread(main)


@pytest.mark.parametrize("signals", [True, False])
def test_a_run_puts_back_what_it_took_or_takes_nothing(signals: bool) -> None:
    owns = {number: Seen() for number in RUN_SIGNALS}
    for number, own in owns.items():
        signal.signal(number, own)
    during: list[object] = []

    def started(runtime: aiomos.Runtime) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: during.extend(map(signal.getsignal, RUN_SIGNALS)))
        loop.call_later(0.01, runtime.stop)

    async def main() -> None:
        await aiomos.serve(App("idle"), transport=Silent(), started=started, signals=signals)

    asyncio.run(main())
    kept = [handler in owns.values() for handler in during]
    assert kept == [not signals] * 3
    assert all(signal.getsignal(number) is own for number, own in owns.items())


def test_an_interrupt_ends_a_live_run_that_handles_signals() -> None:
    def started(_runtime: aiomos.Runtime) -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)

    async def main() -> aiomos.Report:
        return await aiomos.serve(App("idle"), transport=Silent(), started=started)

    assert asyncio.run(main()).frames == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_run_hands_it_on() -> None:
    own = Seen()
    signal.signal(signal.SIGUSR1, own)
    app = App("asks")
    during: list[object] = []

    @app.monitor()
    async def ask(_conn: aiomos.MonitorConnection) -> None:
        during.append(signal.getsignal(signal.SIGUSR1))

    aiomos.run(app, pcap=[CAPTURE], signals=False)
    assert during == [own, own]


async def test_run_in_a_running_loop_says_what_to_use() -> None:
    with pytest.raises(RuntimeError, match=r"await aiomos\.serve\("):
        aiomos.run(App("idle"), pcap=[CAPTURE])


def test_a_firewall_leaves_sighup_alone_where_signals_are_the_programs(tmp_path: Path) -> None:
    """It reloads its rules upon SIGHUP; a daemon that embeds it may do so, too."""
    rules = tmp_path / "rules.toml"
    rules.write_text("")
    program = f"""
import asyncio, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
import aiomos
from aiomos.apps.firewall import app
from tests.unit.runtime.test_live_pump import Sockets
app.configure(["rules={rules}"])
own = lambda *_: None
signal.signal(signal.SIGHUP, own)
during = []
def started(runtime):
    during.append(signal.getsignal(signal.SIGHUP) is own)
    asyncio.get_running_loop().call_soon(runtime.stop)
for signals in (True, False):
    asyncio.run(aiomos.serve(app, transport=Sockets(), started=started, signals=signals))
    during.append(signal.getsignal(signal.SIGHUP) is own)
print(during)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[False, True, True, True]\n", done.stderr
