"""Workers that share live traffic: each flow whole at one of them, and none lost with a worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.live.conftest import Line
from tests.live.network import Host
from tests.live.programs import COMMAND_SECONDS, Aiomos, echo, exchange, serve, until

CONNECTIONS = 24
DATA = bytes(range(256)) * 40


def talk(client: Host, server: Host) -> set[int]:
    """Open connections one after the other; return their client ports."""
    ports = set()
    for _ in range(CONNECTIONS):
        connection = client.connect(server.address, 7)
        ports.add(connection.getsockname()[1])
        assert exchange(connection, DATA) == DATA
    return ports


def whole(records: Iterable[dict[str, Any]], ports: set[int]) -> set[int]:
    """Client ports, among these, of the flows that were seen from end to end."""
    return {
        record["client_port"]
        for record in records
        if record.get("client_port") in ports
        and record["client_stream_bytes"] == record["server_stream_bytes"] == len(DATA)
        and record["client_lost"] == record["server_lost"] == 0
    }


def start(line: Line, directory: Path, *arguments: str) -> Aiomos:
    """Start two workers, and wait for both."""
    at_once = ("--setting", "timeouts.time_wait=0")  # a flow is written as soon as it has ended
    aiomos = Aiomos(line.middle, directory, "flowlog", "--workers", "2", *at_once, *arguments)
    wait_for_workers(aiomos, 2)
    return aiomos


def wait_for_workers(aiomos: Aiomos, count: int) -> None:
    """Wait until workers have been ready so often."""
    until(
        f"{count} workers are ready",
        lambda: sum(record["event"] == "ready" for record in aiomos.log) >= count,
    )


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.parametrize(
    "arguments", [("--iface", "eth0"), ("--bridge", "eth0", "eth1")], ids=["watch", "bridge"]
)
def test_both_directions_of_a_flow_come_to_one_worker(
    arguments: tuple[str, ...], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    line: Line = request.getfixturevalue("watched" if arguments[0] == "--iface" else "in_line")
    serve(line.server, 7, echo)
    aiomos = start(line, tmp_path / "run", *arguments)
    ports = talk(line.client, line.server)
    until("all flows are written, whole", lambda: whole(aiomos.records, ports) == ports)
    ended = aiomos.stop()
    assert ended.status == 0
    # What is sent once more after a flow was forgotten at its end is a connection without a SYN.
    whole_ones = [each for each in ended.records if each["server_port"] == 7 and not each["midstream"]]
    assert len(whole_ones) == len(ports)


def test_what_comes_while_a_worker_is_dead_waits_for_the_next(watched: Line, tmp_path: Path) -> None:
    serve(watched.server, 7, echo)
    aiomos = start(watched, tmp_path / "run", "--iface", "eth0")
    for victim in children(aiomos.process.pid):
        os.kill(victim, signal.SIGKILL)
    ports = talk(watched.client, watched.server)
    wait_for_workers(aiomos, 4)
    ports |= talk(watched.client, watched.server)
    until("all flows are written, whole", lambda: whole(aiomos.records, ports) == ports)
    ended = aiomos.stop()
    assert ended.status == 0
    assert sum(record["event"] == "worker_died" for record in ended.log) == 2


SLOW = """
import asyncio
from pathlib import Path
from aiomos import App
from aiomos.logging import get_logger

app = App("slow")

@app.startup
async def begin() -> None:
    get_logger("slow").info("starting")
    while not Path("{go}").exists():
        await asyncio.sleep(0.01)
"""


def test_what_came_before_a_worker_had_started_is_taken_though_it_is_to_end(
    watched: Line, tmp_path: Path
) -> None:
    """Its ring has filled since the one before it died; the signal comes while its apps start."""
    go, slow = tmp_path / "go", tmp_path / "slow.py"
    slow.write_text(SLOW.format(go=go))
    go.touch()
    serve(watched.server, 7, echo)
    aiomos = start(watched, tmp_path / "run", str(slow), "--iface", "eth0")
    go.unlink()
    for victim in children(aiomos.process.pid):
        os.kill(victim, signal.SIGKILL)
    until("both start again", lambda: sum(record["event"] == "starting" for record in aiomos.log) == 4)
    ports = talk(watched.client, watched.server)
    aiomos.process.send_signal(signal.SIGTERM)
    aiomos.wait_for("ending")
    go.touch()
    aiomos.process.wait(COMMAND_SECONDS)
    ended = aiomos.stop()
    assert ended.status == 0
    assert whole(ended.records, ports) == ports
