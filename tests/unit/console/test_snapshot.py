"""The state of a run, as SIGUSR1 shows it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import orjson
import pytest
import structlog

from aiomos import Budgets, logging
from aiomos.console.snapshot import Snapshot, show, shown_on_signal

STATE = Snapshot(
    counters={"frames": 1000, "open": 9, "half_open": 2, "closed": 3, "evicted": 0, "held_bytes": 512},
    apps={"watch": {"callbacks": 5, "callback_seconds": 0.25}},
    budgets=Budgets(held_bytes=1024),
)


@pytest.fixture
def formats() -> Iterator[None]:
    """Log formats of tests end with them."""
    yield
    logging.configure()
    structlog.reset_defaults()


@pytest.mark.usefixtures("formats")
def test_for_people_it_is_tables(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("console")
    show(STATE, worker=2)
    shown = capsys.readouterr().err
    assert "worker 2" in shown
    assert "2 half_open, 4 established, 3 closed" in shown
    assert "50.0%" in shown
    assert "evicted" not in shown


@pytest.mark.usefixtures("formats")
def test_for_machines_it_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("json")
    show(STATE, worker=2)
    (line,) = capsys.readouterr().err.splitlines()
    state = orjson.loads(line)
    assert state["event"] == "state"
    assert state["worker"] == 2
    assert state["flows"] == {"half_open": 2, "established": 4, "closed": 3}
    assert state["budgets"]["held_bytes"] == {"used": 512, "limit": 1024}
    assert state["apps"] == {"watch": {"callbacks": 5, "callback_seconds": 0.25}}


@pytest.mark.usefixtures("formats")
def test_what_is_bound_is_in_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("json", worker=3)
    logging.get_logger("test").info("something")
    record = orjson.loads(capsys.readouterr().err)
    assert record["worker"] == 3
    assert record["timestamp"].endswith("Z")


async def test_a_signal_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    looked = asyncio.Event()

    def look() -> Snapshot:
        asyncio.get_running_loop().call_soon(looked.set)
        return STATE

    with shown_on_signal(look):
        os.kill(os.getpid(), signal.SIGUSR1)
        async with asyncio.timeout(20):
            await looked.wait()
    assert "1,000" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
