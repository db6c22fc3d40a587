"""Run what the paper's figures 6 and 7 compare: ``aiomos_events.py WAY COUNT FILE``.

Apps that share one run, COUNT of them, each following every TCP connection at `Level.STREAM`:

track      No callback and no handler.
account    A callback at each connection's end adds up the bytes of both halves.
read       A handler for each connection reads every byte of both halves.

One such app of the first kind, with COUNT more:

setup           Callbacks on CONN_SETUP.
new_data        Callbacks on CONN_NEW_DATA that ask for nothing.
peek            The same, and each looks at the half's first bytes.
packet_udes     User-defined events upon PKT_IN that rarely happen, each with a callback.
data_udes       The same upon CONN_NEW_DATA; the predicates look at the half's first bytes.

The same where only compiled code runs, as callbacks are on events that never happen: setup_native, new_data_native,
packet_udes_native, data_udes_native.

One app that follows every TCP connection at `Level.STATE`, with COUNT of:

state      Nothing.
packet     Callbacks on every packet, which take it and do nothing.
judge      User-defined events whose predicates make three comparisons on every packet.

Prints one JSON line, as aiomos_modes.py does; ``calls`` are those of callbacks, where they count.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

from aiomos_modes import reader, run

from aiomos import CONN_NEW_DATA, CONN_SETUP, CONN_TEARDOWN, PKT_IN, App, Event, Flow, Half, Level, Packet
from aiomos.ude import UserEvent, ude

Predicate = Callable[..., object]

NUMBERS = ("1", "2", "3", "4", "5")

calls = count()


# --- what callbacks do ----------------------------------------------------------------------------


def counting() -> None:
    next(calls)


def peeking(half: Half) -> None:
    next(calls)
    half.peek(0, 16)


def taking(pkt: Packet) -> None:
    pass


# --- predicates -----------------------------------------------------------------------------------


def small_window_syn(pkt: Packet) -> object:
    return pkt.syn and pkt.window < 16


def far_reset(pkt: Packet) -> object:
    return pkt.rst and pkt.ttl > 250


def full_and_dying(pkt: Packet) -> object:
    return pkt.payload_len > 1400 and pkt.ttl == 3


def first_number_fin(pkt: Packet) -> object:
    return pkt.fin and pkt.seq == 1


def urgent(pkt: Packet) -> object:
    return pkt.urg


RARE_PACKETS: Sequence[Predicate] = (small_window_syn, far_reset, full_and_dying, first_number_fin, urgent)


def subversion(half: Half) -> object:
    return half.peek(0, 4) == b"( su"


def git_pack(half: Half) -> object:
    return half.peek(0, 4) == b"PACK"


def java_class(half: Half) -> object:
    return half.peek(0, 4) == b"\xca\xfe\xba\xbe"


def elf(half: Half) -> object:
    return half.peek(0, 4) == b"\x7fELF"


def zip_archive(half: Half) -> object:
    return half.peek(0, 4) == b"PK\x03\x04"


RARE_DATA: Sequence[Predicate] = (subversion, git_pack, java_class, elf, zip_archive)


def client_mss_of_1(flow: Flow) -> object:
    return flow.client.mss == 1


def server_mss_of_1(flow: Flow) -> object:
    return flow.server.mss == 1


def client_scale_of_15(flow: Flow) -> object:
    return flow.client.window_scale == 15


def server_scale_of_15(flow: Flow) -> object:
    return flow.server.window_scale == 15


def internet_stream(flow: Flow) -> object:
    return flow.ip_version == 5


NEVER: Sequence[Predicate] = (
    client_mss_of_1,
    server_mss_of_1,
    client_scale_of_15,
    server_scale_of_15,
    internet_stream,
)


def low_port_1(pkt: Packet) -> object:
    return pkt.ttl != 1 and pkt.window != 1 and pkt.sport == 1


def low_port_2(pkt: Packet) -> object:
    return pkt.ttl != 2 and pkt.window != 2 and pkt.sport == 2


def low_port_3(pkt: Packet) -> object:
    return pkt.ttl != 3 and pkt.window != 3 and pkt.sport == 3


def low_port_4(pkt: Packet) -> object:
    return pkt.ttl != 4 and pkt.window != 4 and pkt.sport == 4


def low_port_5(pkt: Packet) -> object:
    return pkt.ttl != 5 and pkt.window != 5 and pkt.sport == 5


JUDGED: Sequence[Predicate] = (low_port_1, low_port_2, low_port_3, low_port_4, low_port_5)


# --- apps -----------------------------------------------------------------------------------------


def tracker(level: Level = Level.STREAM) -> App:
    app = App("bench")
    app.track("tcp", level=level)
    return app


def accountant() -> App:
    app = tracker()
    total = 0

    @app.on(CONN_TEARDOWN, level=Level.BYTES)
    def add(flow: Flow) -> None:
        nonlocal total
        total += flow.client.stream_bytes + flow.server.stream_bytes

    return app


def called(event: Event, function: Callable[..., None], number: int) -> App:
    """An app with callbacks on one event."""
    app = tracker()
    for _ in range(number):
        app.on(event)(function)
    return app


def judged(event: Event, predicates: Sequence[Predicate], level: Level = Level.STREAM) -> App:
    """An app with user-defined events, and a callback on each."""
    app = tracker(level)
    for base in define(event, predicates):
        app.on(base)(counting)
    return app


def judged_alone(event: Event, predicates: Sequence[Predicate]) -> App:
    """An app with user-defined events, on which nothing happens in Python.

    Events are only looked at for the sake of a callback, so each has an event upon it that never happens.
    """
    app = tracker()
    for base, never in zip(define(event, predicates), NEVER, strict=False):
        app.on(ude(base, native=True)(never))(counting)
    return app


def define(event: Event, predicates: Sequence[Predicate]) -> list[UserEvent]:
    return [ude(event, native=True)(predicate) for predicate in predicates]


def packet_callbacks(number: int) -> App:
    app = tracker(Level.STATE)
    for _ in range(number):
        app.on(PKT_IN)(taking)
    return app


ONE_APP: dict[str, Callable[[int], App]] = {
    "setup": partial(called, CONN_SETUP, counting),
    "setup_native": lambda number: judged(CONN_SETUP, NEVER[:number]),
    "new_data": partial(called, CONN_NEW_DATA, counting),
    "peek": partial(called, CONN_NEW_DATA, peeking),
    "new_data_native": lambda number: judged(CONN_NEW_DATA, NEVER[:number]),
    "packet_udes": lambda number: judged(PKT_IN, RARE_PACKETS[:number]),
    "packet_udes_native": lambda number: judged_alone(PKT_IN, RARE_PACKETS[:number]),
    "data_udes": lambda number: judged(CONN_NEW_DATA, RARE_DATA[:number]),
    "data_udes_native": lambda number: judged_alone(CONN_NEW_DATA, RARE_DATA[:number]),
    "state": lambda _: tracker(Level.STATE),
    "packet": packet_callbacks,
    "judge": lambda number: judged(PKT_IN, JUDGED[:number], Level.STATE),
}


def read(number: int, path: Path) -> None:
    readers = [reader() for _ in range(number)]
    apps, totals = zip(*readers, strict=True)
    run(*apps, path=path, totals=lambda: {"bytes": sum(total()["bytes"] for total in totals)})


def share(app: Callable[[], App], number: int, path: Path) -> None:
    run(*(app() for _ in range(number)), path=path)


def alone(app: Callable[[int], App], number: int, path: Path) -> None:
    run(app(number), path=path, totals=lambda: {"calls": next(calls)})


WAYS: dict[str, Callable[[int, Path], None]] = {
    "track": partial(share, tracker),
    "account": partial(share, accountant),
    "read": read,
    **{way: partial(alone, app) for way, app in ONE_APP.items()},
}


def main() -> int:
    if len(sys.argv) != 4 or sys.argv[1] not in WAYS or sys.argv[2] not in NUMBERS:
        print(f"usage: {sys.argv[0]} {'|'.join(WAYS)} {'|'.join(NUMBERS)} FILE", file=sys.stderr)
        return 2
    WAYS[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
