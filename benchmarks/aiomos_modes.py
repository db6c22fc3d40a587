"""Run aiomos over a capture in one of its ways: ``aiomos_modes.py state|stream|handlers|flowlog FILE``.

state     Every TCP connection at `Level.STATE`, no handler.
stream    The same at `Level.STREAM`: bytes are put in order, and nobody reads them.
handlers  An async handler for each connection that reads every byte of both directions.
flowlog   The app of that name, writing one JSON line a connection.

Prints one JSON line; ``seconds`` counts from the first read to the last handler's end, and
``python_startup_seconds`` the processor time of starting Python and importing aiomos before that. The runner
adds the wall time of the whole process.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiomos
from aiomos import App, Level
from aiomos.settings import Budgets, Settings

SETTINGS = Settings(budgets=Budgets(flows=1 << 21, half_open=1 << 21))  # nothing is to be evicted

Totals = Callable[[], dict[str, int]]

ENDINGS = (
    aiomos.ConnectionReset,
    aiomos.ConnectionTimedOut,
    aiomos.ConnectionEvicted,
)


def state(path: Path) -> None:
    track(path, Level.STATE)


def stream(path: Path) -> None:
    track(path, Level.STREAM)


def track(path: Path, level: Level) -> None:
    app = App("bench")
    app.track("tcp", level=level)
    run(app, path=path)


def handlers(path: Path) -> None:
    app, totals = reader()
    run(app, path=path, totals=totals)


def reader() -> tuple[App, Totals]:
    """An app with a handler for each connection that reads every byte, and what it has read."""
    app = App("bench")
    total = newlines = 0

    @app.monitor("tcp", level=Level.STREAM, gaps="skip")
    async def read(conn: aiomos.MonitorConnection) -> None:
        nonlocal total, newlines
        try:
            async for _, data in conn:
                total += len(data)
                newlines += data.count(b"\n")
        except ENDINGS:
            pass

    return app, lambda: {"bytes": total, "newlines": newlines}


def flowlog(path: Path) -> None:
    from aiomos.apps.flowlog import app

    with tempfile.NamedTemporaryFile(suffix=".jsonl") as records:
        app.configure([f"path={records.name}"])
        run(app, path=path)


def run(*apps: App, path: Path, totals: Totals = dict) -> None:
    """Run apps over a capture and print what they counted."""
    startup = time.process_time()
    report = aiomos.run(*apps, pcap=[path], settings=SETTINGS)
    counters = report.counters
    counted = {
        "frames": report.frames,
        "segments": counters.get("tcp", 0) - counters.get("orphans", 0) - counters.get("unwatched", 0),
        "flows": counters.get("flows", 0),
        **totals(),
    }
    print(json.dumps({**counted, "seconds": report.seconds, "python_startup_seconds": startup}))


MODES: dict[str, Callable[[Path], None]] = {
    "state": state,
    "stream": stream,
    "handlers": handlers,
    "flowlog": flowlog,
}


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in MODES:
        print(f"usage: {sys.argv[0]} {'|'.join(MODES)} FILE", file=sys.stderr)
        return 2
    MODES[sys.argv[1]](Path(sys.argv[2]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
