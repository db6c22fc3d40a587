"""Run aiomos in line in one of its ways: ``aiomos_bridge.py wire|bridge|state FIRST SECOND``.

wire    Frames are sent on as they come, without an engine.
bridge  With an engine, and no app.
state   With an app that has every TCP connection followed at `Level.STATE`.

Prints ``ready``, and when SIGINT has ended the run one JSON line.
"""

import json
import select
import signal
import sys

from aiomos_modes import SETTINGS

import aiomos
from aiomos import App, Level
from aiomos.transport.bridge import Bridge

WAYS = ("wire", "bridge", "state")


def carry(bridge: Bridge) -> dict[str, int]:
    """Send frames on until SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with select.epoll() as poll:
        poll.register(bridge.fileno(), select.EPOLLIN)
        try:
            while poll.poll():
                while bridge.read_batch():
                    bridge.forward_batch()
        except KeyboardInterrupt:
            return bridge.statistics()


def run(bridge: Bridge, *, state: bool) -> dict[str, int]:
    """Run an engine until SIGINT."""
    app = App("bench")
    if state:
        app.track("tcp", level=Level.STATE)
    counters = aiomos.run(app, transport=bridge, settings=SETTINGS).counters
    return {name: counters[f"transport.{name}"] for name in ("sent", "unsent", "dropped")}


def main() -> int:
    if len(sys.argv) != 4 or sys.argv[1] not in WAYS:
        print(f"usage: {sys.argv[0]} {'|'.join(WAYS)} FIRST SECOND", file=sys.stderr)
        return 2
    way, first, second = sys.argv[1:]
    bridge = Bridge(first, second)
    print("ready", flush=True)
    counters = carry(bridge) if way == "wire" else run(bridge, state=way == "state")
    print(json.dumps({name: counters[name] for name in ("sent", "unsent", "dropped")}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
