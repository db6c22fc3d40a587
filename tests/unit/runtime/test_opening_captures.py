"""Captures that are long in coming: opening and reading them leaves the event loop to others, and ends at once."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

import aiomos
from aiomos import App, MonitorConnection
from tests.traffic import Traffic

ROOT = Path(__file__).parents[3]
Compress = Callable[[bytes], bytes]


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def reader() -> tuple[App, list[bytes]]:
    app = App("reader")
    got: list[bytes] = []

    @app.monitor()
    async def read(conn: MonitorConnection) -> None:
        got.append(bytes(await conn.client.read()))

    return app, got


def packets(payload: bytes = b"abc", port: int = 1000) -> bytes:
    traffic = Traffic()
    conn = traffic.connection(port)
    conn.client(payload)
    conn.close()
    return traffic.pcapng()


async def turns(count: int = 30) -> None:
    """Give the event loop turns, which it has only if nothing holds it up."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until_open(fifo: Path) -> int:
    """Open a pipe for writing once it is open for reading, as a writer that waits would."""
    return await asyncio.to_thread(os.open, fifo, os.O_WRONLY)


async def test_a_pipe_that_nobody_writes_to_holds_nothing_up(fifo: Path) -> None:
    task = asyncio.create_task(aiomos.serve(App("idle"), pcap=[fifo]))
    await turns()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_written_later_is_for_who_reads_then(
    fifo: Path, reader: tuple[App, list[bytes]]
) -> None:
    """A run that was given up takes nothing out of the pipe."""
    app, got = reader
    given_up = asyncio.create_task(aiomos.serve(App("idle"), pcap=[fifo]))
    writer = await until_open(fifo)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    os.close(writer)
    task = asyncio.create_task(aiomos.serve(app, pcap=[fifo]))
    writer = await until_open(fifo)
    os.write(writer, packets())
    os.close(writer)
    await task
    assert got == [b"abc"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.compress])
async def test_a_pipe_may_come_byte_by_byte(
    fifo: Path, compress: Compress, reader: tuple[App, list[bytes]]
) -> None:
    app, got = reader
    data = compress(packets())
    task = asyncio.create_task(aiomos.serve(app, pcap=[fifo]))
    writer = await until_open(fifo)
    for at in range(len(data)):
        os.write(writer, data[at : at + 1])
        await turns(5)
    os.close(writer)
    report = await task
    assert (report.frames, got) == (7, [b"abc"])


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
async def test_of_pipes_that_are_merged_none_holds_up_the_others(
    tmp_path: Path, compress: Compress, reader: tuple[App, list[bytes]]
) -> None:
    app, got = reader
    pipes = [tmp_path / name for name in "abc"]
    parts = [compress(packets(name.encode(), port)) for name, port in (("a", 1000), ("b", 1001), ("c", 1002))]
    for pipe in pipes:
        os.mkfifo(pipe)
    task = asyncio.create_task(aiomos.serve(app, pcap=pipes))
    writers = []
    for pipe, part in zip(pipes, parts, strict=True):
        writers.append(await until_open(pipe))
        os.write(writers[-1], part[:90])
        await turns()
    for writer, part in reversed([*zip(writers, parts, strict=True)]):
        for at in range(90, len(part), 50):
            os.write(writer, part[at : at + 50])
            await turns(5)
        os.close(writer)
    report = await task
    assert (report.frames, sorted(got)) == (21, [b"a", b"b", b"c"])


async def test_what_was_opened_when_it_is_given_up_is_closed(tmp_path: Path) -> None:
    """Whenever it is cancelled; that nothing is left open is seen to after each test."""
    (tmp_path / "file").write_bytes(packets())
    ended = 0
    for waits in range(12):
        task = asyncio.create_task(aiomos.serve(App("idle"), pcap=[tmp_path / "file"]))
        await turns(waits)
        task.cancel()
        ended += len((await asyncio.wait([task]))[0])
    assert ended == 12


@pytest.mark.parametrize("error", [FileNotFoundError, IsADirectoryError, aiomos.CaptureError, ValueError])
async def test_what_cannot_be_opened_is_told_as_ever(error: type[Exception], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    paths = {
        FileNotFoundError: ["missing"],
        IsADirectoryError: [""],
        aiomos.CaptureError: ["empty"],
        ValueError: [],
    }
    with pytest.raises(error):
        await aiomos.serve(App("idle"), pcap=[tmp_path / path for path in paths[error]])


@pytest.mark.parametrize("arguments", [[], ["--loop", "asyncio"]], ids=str)
@pytest.mark.parametrize(
    "begun", [b"", packets()[:10], packets()], ids=["nothing", "a part", "all but the end"]
)
def test_an_interrupt_ends_it_at_once(arguments: list[str], begun: bytes, fifo: Path) -> None:
    """It is open, as who writes to it is let go on, and what it waits for does not come."""
    command = [
        sys.executable,
        "-m",
        "aiomos",
        "run",
        "top",
        "--pcap",
        str(fifo),
        "--grace",
        "1000",
        *arguments,
    ]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process,
        open(fifo, "wb", buffering=0) as writer,
    ):
        writer.write(begun)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
