"""Run aiomos on an interface in one of its ways: ``aiomos_live.py state|stream INTERFACE BLOCKS``.

state   Every TCP connection at `Level.STATE`, no handler.
stream  The same at `Level.STREAM`: bytes are put in order, and nobody reads them.

The ring has so many blocks of 1 MiB. Prints ``ready``, and when SIGINT has ended the run one JSON line.
"""

import json
import sys

from aiomos_modes import SETTINGS

import aiomos
from aiomos import FRAME, App, Hook, Level, Packet
from aiomos.transport.packet import PacketWatch

LEVELS = {"state": Level.STATE, "stream": Level.STREAM}


def take_all_frames(app: App) -> None:
    """Want packets of no flow, too, or the kernel would leave out what is not TCP, unlike with the others."""

    @app.ude(FRAME, native=True)
    def never(pkt: Packet) -> bool:
        return pkt.vlan == -1

    @app.on(never, hook=Hook.RAW)
    def unseen() -> None:
        raise AssertionError("a VLAN of number -1")


def main() -> int:
    if len(sys.argv) != 4 or sys.argv[1] not in LEVELS:
        print(f"usage: {sys.argv[0]} {'|'.join(LEVELS)} INTERFACE BLOCKS", file=sys.stderr)
        return 2
    mode, interface, blocks = sys.argv[1:]
    app = App("bench")
    app.track("tcp", level=LEVELS[mode])
    take_all_frames(app)
    transport = PacketWatch([interface], blocks=int(blocks))
    print("ready", flush=True)
    report = aiomos.run(app, transport=transport, settings=SETTINGS)
    counted = {
        "frames": report.frames,
        "flows": report.counters.get("flows", 0),
        "dropped": report.counters["transport.dropped"],
    }
    print(json.dumps(counted))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
