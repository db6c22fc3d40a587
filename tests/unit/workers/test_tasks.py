"""What workers are told that all of them have in common."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from aiomos.transport.transport import Transport
from aiomos.workers.plan import Plan, Task
from aiomos.workers.process import WorkerProcess
from aiomos.workers.records import Record
from aiomos.workers.supervisor import Supervisor
from aiomos.workers.worker import Worker
from tests.traffic import in_loop

WORKERS = 3


class Wire:
    """Live traffic of which there is none."""

    def open(self) -> Transport:
        """Open it."""
        return Transport()

    def open_sockets(self, workers: int) -> Sequence[Sequence[socket.socket]]:
        """Open as many sockets as there are workers: none each."""
        return [()] * workers

    def open_transport(self, sockets: Sequence[socket.socket]) -> Transport:
        """Open a worker's."""
        assert not sockets
        return Transport()


def test_all_workers_tell_one_time_and_know_their_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are started anew as well, however the wall's clock was set meanwhile."""
    tasks: list[Task] = []

    async def main() -> None:
        supervisor = Supervisor(Plan(workers=WORKERS, wire=Wire()), tmp_path)
        for worker in (*supervisor.workers, supervisor.workers[1]):
            await supervisor._run_once(worker)

    def start(_: WorkerProcess, task: Task) -> None:
        tasks.append(task)

    async def follow(*_: object) -> int:
        return 0

    monkeypatch.setattr(WorkerProcess, "start", start)
    monkeypatch.setattr(WorkerProcess, "follow", follow)
    in_loop(main(), "asyncio")
    assert [task.number for task in tasks] == [0, 1, 2, 1]
    assert len({task.clock_base_ns for task in tasks}) == 1
    for task in tasks:
        one, other = socket.socketpair()
        with one, other:
            frames = Worker(one, task)._frames()
        assert frames["transport"].clock.base_ns == task.clock_base_ns != 0
        assert frames["shard"] == (task.number, WORKERS)


def test_a_worker_that_is_told_to_end_as_it_starts_ends_in_good_order(tmp_path: Path) -> None:
    """Its process does not know of the signal yet: that waits, and is not its death."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    worker = WorkerProcess(number=0, cpu=min(os.sched_getaffinity(0)), control=tmp_path / "control")

    async def main() -> int:
        link = worker.start(
            Task(
                plan=Plan(workers=1, captures=(str(pipe),)), number=0, cpu=worker.cpu, control=worker.control
            )
        )
        worker.signal(signal.SIGTERM)
        return await worker.follow(link, nothing)

    async def nothing(_records: Sequence[Record]) -> None:
        """Take them."""

    status = in_loop(main(), "asyncio")
    worker.close()
    assert status == 0
    assert worker.ending is not None
    assert worker.ending.error is None
