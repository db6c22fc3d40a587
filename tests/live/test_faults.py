"""When something breaks, what does not depend on it goes on, and what is lost is counted."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aiomos import App, Budgets, Chunk, MonitorConnection, Runtime, Settings
from aiomos.testing.packets import tcp_frame
from aiomos.transport.packet import PacketWatch
from aiomos.transport.transport import Transport
from tests.live.conftest import Line
from tests.live.middlebox import Middlebox
from tests.live.network import COMMAND_SECONDS, Host, Network
from tests.live.programs import READY, ROOT, Aiomos, ctl, echo, exchange, serve, until

PAUSE = 0.005
"""Seconds between two things a talker says: it is there all the time, and leaves the processor to others."""

SOL_PACKET = 263
PACKET_STATISTICS = 6


class Said:
    """What somebody has said: comparable, and without keeping it."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._length = 0

    def add(self, data: Chunk | bytes) -> None:
        self._hash.update(data)
        self._length += len(data)

    def __repr__(self) -> str:
        return f"{self._length} bytes, SHA-256 {self._hash.hexdigest()[:16]}"

    def __eq__(self, other: object) -> bool:
        return repr(self) == repr(other)


class Talk(threading.Thread):
    """A connection to an echo that says something again and again, and listens for it, until it is told to stop."""

    def __init__(self, client: Host, address: str, port: int) -> None:
        super().__init__(daemon=True)
        self.connection = client.connect(address, port)
        self.port = self.connection.getsockname()[1]
        self.said = Said()
        self.rounds = 0
        self.error: Exception | None = None
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            with self.connection:
                while not self._over.wait(PAUSE):
                    self._say(os.urandom(5_000))
                self.connection.shutdown(socket.SHUT_WR)
                assert self.connection.recv(1) == b""
        except Exception as error:
            self.error = error

    def _say(self, data: bytes) -> None:
        self.connection.sendall(data)
        answer = b""
        while len(answer) < len(data):
            answer += self.connection.recv(1 << 16)
        assert answer == data
        self.said.add(data)
        self.rounds += 1

    def wait_for_rounds(self, more: int) -> None:
        """Wait until so many rounds more have been spoken."""
        goal = self.rounds + more
        until("the connection goes on", lambda: self.error or self.rounds >= goal)
        if self.error is not None:
            raise self.error

    def finish(self) -> None:
        """End it in good order."""
        self._over.set()
        self.join(COMMAND_SECONDS)
        if self.error is not None:
            raise self.error


@contextmanager
def talking(line: Line, number: int) -> Iterator[list[Talk]]:
    """Have connections talk during the block; afterwards all must have come through."""
    serve(line.server, 7, echo)
    talks = [Talk(line.client, line.server.address, 7) for _ in range(number)]
    for talk in talks:
        talk.wait_for_rounds(1)
    yield talks
    for talk in talks:
        talk.wait_for_rounds(2)
    for talk in talks:
        talk.finish()


# --- interfaces ---------------------------------------------------------------------------------------


def test_bridge_goes_on_when_an_interface_is_up_again(in_line: Line, tmp_path: Path) -> None:
    bridge = Aiomos(in_line.middle, tmp_path, "flowlog", "--bridge", "eth0", "eth1")
    with talking(in_line, 2):
        in_line.middle.set_link("eth1", state="down")
        bridge.wait_for("interface_down")
        in_line.middle.set_link("eth1", state="up")
    ended = bridge.stop()
    assert ended.status == 0
    assert [record["reason"] for record in ended.records] == ["fin", "fin"]


def test_watcher_goes_on_when_the_interface_is_up_again(watched: Line, tmp_path: Path) -> None:
    watcher = Aiomos(watched.middle, tmp_path, "flowlog", "--iface", "eth0")
    with talking(watched, 2):
        watched.middle.set_link("eth0", state="down")
        watcher.wait_for("interface_down")
        watched.middle.set_link("eth0", state="up")
    ended = watcher.stop()
    assert ended.status == 0
    assert [record["reason"] for record in ended.records] == ["fin", "fin"]


@pytest.mark.parametrize("arguments", [("--bridge", "eth0", "eth1"), ("--iface", "eth1")])
def test_run_ends_with_an_error_when_its_interface_is_removed(
    in_line: Line, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """And with the records of the flows there were."""
    bridged = arguments[0] == "--bridge"
    if not bridged:
        in_line.middle.add_bridge("eth0", "eth1")
    control = tmp_path / "control"
    run = Aiomos(in_line.middle, tmp_path, "flowlog", *arguments, "--control", control)
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(in_line.server.address, 7)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    until(
        "all segments are read", lambda: json.loads(ctl(control, "stats", "--json"))["counters"]["tcp"] >= 6
    )
    with in_line.middle.netlink() as netlink:
        netlink.link("del", index=in_line.middle.index("eth1"))
    assert run.process.wait(COMMAND_SECONDS) not in (0, None)
    said = (tmp_path / "stderr").read_text()
    assert "eth1" in said
    assert "Traceback" not in said
    (record,) = run.records
    assert record["client_stream_bytes"] == 5


# --- workers ------------------------------------------------------------------------------------------


def workers_of(process_id: int) -> set[int]:
    """Return the child processes of a process that run aiomos."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return {int(child) for child in children if b"aiomos" in Path(f"/proc/{child}/cmdline").read_bytes()}


def wait_for_workers(run: Aiomos, starts: int) -> None:
    """Wait until so many workers have been started, and are ready."""
    until("workers are ready", lambda: [record["event"] for record in run.log].count(READY) == starts)


def test_connections_outlive_a_worker_that_is_killed(in_line: Line, tmp_path: Path) -> None:
    run = Aiomos(in_line.middle, tmp_path, "flowlog", "--bridge", "eth0", "eth1", "--workers", "2")
    wait_for_workers(run, 2)
    before = workers_of(run.process.pid)
    assert len(before) == 2
    with talking(in_line, 8) as talks:
        for starts, victim in enumerate(sorted(before), start=3):
            os.kill(victim, signal.SIGKILL)
            wait_for_workers(run, starts)
            for talk in talks:
                talk.wait_for_rounds(2)
    assert not before & workers_of(run.process.pid)
    assert run.stop().status == 0


def test_watching_goes_on_when_a_worker_is_killed(watched: Line, tmp_path: Path) -> None:
    """What comes in before there is another waits for it."""
    run = Aiomos(watched.middle, tmp_path, "flowlog", "--iface", "eth0", "--workers", "2")
    wait_for_workers(run, 2)
    serve(watched.server, 7, echo)
    os.kill(min(workers_of(run.process.pid)), signal.SIGKILL)
    for _ in range(20):
        assert exchange(watched.client.connect(watched.server.address, 7), b"hello") == b"hello"
    wait_for_workers(run, 3)
    ended = run.stop()
    assert ended.status == 0
    assert [record["client_stream_bytes"] for record in ended.records] == [5] * 20


HANGING = """
import time
from aiomos import App, PKT_IN, Packet

app = App("hanging")

@app.on(PKT_IN, filter="server port 7")
def hang(pkt: Packet) -> None:
    if pkt.payload == b"hang":
        while True:
            time.sleep(1)
"""


def test_worker_whose_callback_hangs_is_replaced(in_line: Line, tmp_path: Path) -> None:
    app = tmp_path / "hanging.py"
    app.write_text(HANGING)
    run = Aiomos(
        in_line.middle, tmp_path, app, "--bridge", "eth0", "eth1", "--workers", "2", "--watchdog", "1"
    )
    wait_for_workers(run, 2)
    before = workers_of(run.process.pid)
    with talking(in_line, 4):
        trap = in_line.client.connect(in_line.server.address, 7)
        trap.sendall(b"hang")
        until("a worker is replaced", lambda: len(workers_of(run.process.pid) - before) == 1)
        trap.close()
    assert run.stop().status == 0


# --- handlers -----------------------------------------------------------------------------------------


def test_handlers_that_hang_or_throw_hold_nobody_up(in_line: Line) -> None:
    app = App("careless")
    finished: list[int] = []

    @app.monitor("server port 7")
    async def handle(conn: MonitorConnection) -> None:
        kind = await conn.client.read(5)
        if kind == b"hang!":
            await asyncio.Event().wait()
        if kind == b"throw":
            raise ArithmeticError("as the test asks")
        finished.append(len(await conn.client.read()) + 5)

    box = Middlebox(in_line.middle, app)
    serve(in_line.server, 7, echo)
    data = bytes(3_000_000)
    for kind in (b"hang!", b"throw", b"quiet"):
        connection = in_line.client.connect(in_line.server.address, 7)
        assert exchange(connection, kind + data) == kind + data
    until("the one that does neither is done", lambda: finished)
    assert finished == [len(data) + 5]
    box.call(lambda runtime: [handler.cancel() for handler in runtime.handlers])
    box.stop()
    assert box.counters["handler_errors"] == 1


# --- budgets ------------------------------------------------------------------------------------------

SYNS = 200_000


def flood(line: Line) -> None:
    """Have the client send SYNs of many sources."""
    arguments = ("eth0", line.server.mac("eth0"), line.server.address, str(SYNS))
    program = line.client.start([sys.executable, "-m", "tests.live.flood", *arguments], cwd=ROOT)
    assert program.wait(COMMAND_SECONDS) == 0


def watch() -> Transport:
    return PacketWatch(["eth0"])


@pytest.mark.parametrize("budgets", [Budgets(flows=2000), Budgets(half_open=1000)])
def test_flood_of_syns_costs_established_connections_nothing(watched: Line, budgets: Budgets) -> None:
    """They keep their state and their bytes; the flood evicts itself."""
    app = App("reader")
    app.track("")
    streams: dict[int, dict[str, Said]] = {}

    @app.monitor("server port 7")
    async def read(conn: MonitorConnection) -> None:
        port = conn.flow.client.port
        said = {"client": Said(), "server": Said()}
        async for side, chunk in conn:
            said[side].add(chunk)
        streams[port] = said

    box = Middlebox(watched.middle, app, settings=Settings(budgets=budgets), transport=watch)
    with talking(watched, 8) as talks:
        flood(watched)
    box.stop()
    assert streams == {talk.port: {"client": talk.said, "server": talk.said} for talk in talks}
    assert box.counters["transport.dropped"] == 0
    assert box.counters["flows"] == SYNS + len(talks)
    assert box.counters["evicted"] == SYNS - min(budgets.flows, budgets.half_open + len(talks)) + len(talks)
    assert box.counters["midstream"] == 0


def test_bridge_goes_on_under_a_flood_of_syns(in_line: Line) -> None:
    app = App("tracker")
    app.track("")
    box = Middlebox(in_line.middle, app, settings=Settings(budgets=Budgets(half_open=1000)))
    with talking(in_line, 8):
        flood(in_line)
    box.stop()
    assert box.counters["evicted"] > 0


SENT = 5_000


def watch_with_little_room() -> Transport:
    return PacketWatch(["eth0"], block_size=1 << 16, blocks=4)


def test_what_the_ring_cannot_hold_is_counted_as_the_kernel_counts_it(network: Network) -> None:
    """A second socket says how many frames there were; hosts without addresses send none of their own."""
    sending, watching = network.host("sending"), network.host("watching")
    for host in (sending, watching):
        host.sysctl("ipv6.conf.default.disable_ipv6", 1)
    network.join(sending, "eth0", watching, "eth0")
    app = App("tracker")
    app.track("")
    counting = watching.raw("eth0")
    box = Middlebox(watching, app, transport=watch_with_little_room)
    asleep, awake = threading.Event(), threading.Event()

    def sleep(_: object) -> None:
        asleep.set()
        awake.wait(COMMAND_SECONDS)

    sleeper = threading.Thread(target=box.call, args=(sleep,))
    sleeper.start()
    asleep.wait(COMMAND_SECONDS)
    sender = sending.raw("eth0")
    for number in range(SENT):
        sender.send(tcp_frame(sport=1024 + number, payload=bytes(1000)))
    awake.set()
    sleeper.join()
    until("the ring is read", lambda: box.call(read_as_much_as_received))
    box.stop()
    total, _ = struct.unpack("=II", counting.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
    counters = box.counters
    assert 0 < counters["transport.dropped"] < SENT
    assert counters["transport.received"] + counters["transport.dropped"] == total == SENT


def read_as_much_as_received(runtime: Runtime) -> bool:
    counters = runtime.statistics()
    return counters["frames"] == counters["transport.received"] > 0
