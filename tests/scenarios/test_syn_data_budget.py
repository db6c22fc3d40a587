"""Data of SYNs (RFC 7413) where no more can be held."""

import pytest

from aiomos import App, Budgets, MonitorConnection, Report, Settings
from aiomos.testing.packets import tcp_frame
from tests.events import play
from tests.line import STRICT

FLOWS = 20


def flood(app: App[None], settings: Settings) -> Report:
    """Many SYNs with data, and each again with more of it."""
    payloads = [b"hello!"] * FLOWS + [b"hello!" + b"world!" * 100] * FLOWS
    frames = [tcp_frame(sport=1000 + at % FLOWS, payload=data) for at, data in enumerate(payloads)]
    times = (1_700_000_000_000_000_000 + at * 1_000_000 for at in range(len(frames)))
    return play(
        [(time_ns, frame, 1, len(frame)) for time_ns, frame in zip(times, frames, strict=True)],
        app,
        settings=settings,
    )


@pytest.mark.parametrize("held_bytes", [1, 300, 2048, 8192, 1 << 20])
def test_syns_that_come_again_with_more_data_than_can_be_held(held_bytes: int) -> None:
    """Bytes that cannot be held wait to be sent again; the engine does not wait for them."""
    app: App[None] = App("reads")
    read: list[bytes] = []

    @app.monitor("", gaps="skip")
    async def handle(conn: MonitorConnection) -> None:
        read.append(await conn.client.read())

    report = flood(app, Settings(on_error=STRICT.on_error, budgets=Budgets(held_bytes=held_bytes)))
    assert len(read) == FLOWS
    assert all((b"hello!" + b"world!" * 100).startswith(data) for data in read)
    assert report.counters["held.pieces"] == report.counters["held.blocks"] == 0
