"""Each side of every bound and time that the monitor applies (RFC 9293, RFC 7323, RFC 5961).

A row has a conversation with one number open, and what the monitor counts on either side of the bound: nothing, or
nothing but what it says of a capture that lacks something, where the segment is taken.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from aiomos.settings import Settings, Timeouts
from aiomos.testing.packets import fastopen, timestamps, wscale
from aiomos.testing.scenario import Conversation
from aiomos.testing.scenario import watch_in_batches as watch

DAY = 86_400
STEP = 0.001
"""Seconds between two frames of a conversation."""
WINDOW = 1000
ALLOWED = 2 * WINDOW
"""Beyond the acknowledgements seen: the window, and one more for those that were not captured."""
WIDEST = 1 << 30
"""RFC 7323 section 2.3."""
GUESS = 1 << 22
"""Where the capture tells no window."""
REACH = 65535
"""How far from each other what tells of one jump may be, where windows are small; 16 MiB where they are not."""
SIDES = {"midstream": True}


class Bound(NamedTuple):
    name: str
    play: Callable[[int], Conversation]
    sides: dict[int, dict[str, int]]
    """Anomalies, by the number."""
    options: Mapping[str, Any] = MappingProxyType({})


def opened(window: int = WINDOW, scale: bytes = b"") -> Conversation:
    """Both ends advertise one window; the client has sent nothing."""
    c = Conversation().client("S", window=WINDOW, options=scale).server("SA", window=WINDOW, options=scale)
    return c.client("A", window=window)


def flowed() -> Conversation:
    """The client has sent 3,000 bytes, which the server has acknowledged."""
    c = opened()
    for _ in range(3):
        c.client("A", b"d" * 1000, window=WINDOW).server("A", window=WINDOW)
    return c


def wide(window: int) -> Conversation:
    """The server's window is scaled by 14."""
    return opened(scale=wscale(14)).server("A", window=window)


def ending_at(end: int, payload: bytes = b"d" * 10, c: Conversation | None = None) -> Conversation:
    """A segment of the client's that ends at a number."""
    return (c or opened()).client("A", payload, seq=end - len(payload), window=WINDOW, forged=True)


def client_alone(end: int) -> Conversation:
    c = Conversation().client("S").server("SA", captured=False).client("A")
    return ending_at(end, c=c)


def acknowledging(ack: int, c: Conversation | None = None) -> Conversation:
    """A segment of the server's with data, and an acknowledgement."""
    return (c or opened()).server("A", b"x", ack=ack, window=WINDOW, forged=True)


def picked_up(end: int) -> Conversation:
    c = Conversation().client("S", captured=False).server("SA", captured=False)
    c.client("A", b"d", window=WINDOW).server("A", window=WINDOW)
    return ending_at(end, c=c)


def stamped() -> Conversation:
    """Both clocks are at 1000, and the client's two bytes were acknowledged."""
    c = Conversation().handshake(client_options=timestamps(1000), server_options=timestamps(1000, 1000))
    return c.client("A", b"aa", options=timestamps(1000, 1000)).server("A", options=timestamps(1000, 1000))


def stamp(tsval: int) -> Conversation:
    return stamped().client("A", b"b", options=timestamps(tsval, 1000))


def stamp_after(ns: int) -> Conversation:
    """After so many nanoseconds."""
    return stamped().wait(ns / 1e9 - STEP).client("A", b"b", options=timestamps(998, 1000))


def recent(seq: int, length: int) -> Conversation:
    """A later stamp with a segment, then one between."""
    c = stamped().client("A", b"a" * length, seq=seq, options=timestamps(2000, 1000))
    return c.client("A", b"a", seq=3, options=timestamps(1500, 1000))


def synack(ack: int) -> Conversation:
    c = Conversation().client("S", b"hello", options=fastopen(b"12345678"))
    return c.server("SA", seq=0, ack=ack, forged=True)


def echo(tsecr: int) -> Conversation:
    """A millisecond after the SYN."""
    return Conversation().client("S", options=timestamps(5000)).server("SA", options=timestamps(1, tsecr))


def half_open(**numbers: Any) -> Conversation:
    """To a server in SYN-RECEIVED."""
    return Conversation().client("S").server("SA").client("A", **numbers, forged=True)


def reset(seq: int) -> Conversation:
    """One byte of the client's was acknowledged, four more were not."""
    return opened().client("A", b"a").server("A").client("A", b"bcde").client("R", seq=seq, forged=True)


def after_fin(end: int) -> Conversation:
    """The FIN stands at 6, and was acknowledged."""
    return ending_at(end, c=opened().client("FA", b"hello", window=WINDOW).server("A", window=WINDOW))


def keep_alive(seq: int) -> Conversation:
    return flowed().client("A", seq=seq, window=WINDOW, forged=True)


def probe(seq: int) -> Conversation:
    """Into a window of 0, twice, of which the client has used nothing."""
    c = flowed().server("A", window=0)
    return c.client("A", b"p", seq=seq, window=WINDOW, forged=True)


def late_syn(behind: int, ns: int = 2_000_000) -> Conversation:
    """A SYN that is captured behind bytes of its connection, so many of which are missing, and after so long."""
    c = Conversation().client("S", captured=False).server("SA", captured=False)
    c.client("A", b"d", seq=behind + 1, forged=True).server("A", ack=behind + 2, forged=True)
    return c.wait((ns - 2_000_000) / 1e9).client("S", seq=0, forged=True)


def jump(segments: int) -> Conversation:
    """Segments beyond the window, one behind the other, with nothing else in between; one more tells."""
    c = flowed()
    for n in range(segments):
        ending_at(10_000_000 + 10 * n, c=c)
    return c


def jump_acknowledged(apart: int, ahead: int = 10_000_000, c: Conversation | None = None) -> Conversation:
    """A segment beyond the window, and an acknowledgement so far behind its end."""
    return acknowledging(1 + ahead + apart, ending_at(1 + ahead, c=c))


OUT, BAD_ACK, PAWS = {"out_of_window": 1}, {"bad_ack": 1}, {"paws": 1}
BOUNDS = [
    # RFC 9293 section 3.10.7.4, first check
    Bound("a segment ahead", ending_at, {1 + ALLOWED: {}, 2 + ALLOWED: OUT}),
    Bound(
        "a segment behind", lambda end: ending_at(end, c=flowed()), {3001 - ALLOWED: {}, 3000 - ALLOWED: OUT}
    ),
    Bound("no window ahead", client_alone, {1 + GUESS: {}, 2 + GUESS: OUT}),
    Bound("no window behind", client_alone, {1 - WIDEST: {}, -WIDEST: OUT}),
    Bound(
        "the widest window",
        lambda end: ending_at(end, c=wide(65535)),
        {1 + WIDEST: {}, 2 + WIDEST: OUT},
    ),
    Bound(
        "twice that window",
        lambda end: ending_at(end, c=wide(32767)),
        {1 + 2 * (32767 << 14): {}, 2 + 2 * (32767 << 14): OUT},
    ),
    Bound("a window of unknown scale", picked_up, {2 + (ALLOWED << 14): {}, 3 + (ALLOWED << 14): OUT}, SIDES),
    # fifth check, and RFC 5961 section 5.2
    Bound("an acknowledgement ahead", acknowledging, {1 + ALLOWED: {"ack_unseen": 1}, 2 + ALLOWED: BAD_ACK}),
    Bound(
        "an acknowledgement behind",
        lambda ack: acknowledging(ack, flowed()),
        {3001 - ALLOWED: {}, 3000 - ALLOWED: BAD_ACK},
    ),
    # RFC 7323 sections 5.2 to 5.5, and 4.3
    Bound("a stamp behind", stamp, {999: {}, 998: PAWS}),
    Bound(
        "behind a stamp behind",
        lambda tsval: stamp(999).client("A", b"c", options=timestamps(tsval, 1000)),
        {999: {}, 998: PAWS},
    ),
    Bound("a stamp ahead", stamp, {998 + (1 << 31): {}, 999 + (1 << 31): PAWS}),
    Bound("an old stamp", stamp_after, {24 * DAY * 10**9: {}, 24 * DAY * 10**9 - 1: PAWS}, {"idle": True}),
    Bound("TS.Recent of a segment behind", lambda n: recent(1, n), {1: {}, 2: PAWS}),
    Bound("TS.Recent of a segment ahead", lambda seq: recent(seq, 1), {3: PAWS, 4: {}}),
    # RFC 9293 section 3.10.7.3, RFC 7323 section 3.2
    Bound("below the SYN", synack, {0: {"bad_synack": 1}, 1: {}}),
    Bound("beyond the SYN's data", synack, {6: {}, 7: {"bad_synack": 1}}),
    Bound("an echo behind", echo, {5000: {}, 4999: {"bad_synack": 1}}),
    Bound("an echo ahead", echo, {5002: {}, 5003: {"bad_synack": 1}}),
    # RFC 9293 section 3.10.7.4, in SYN-RECEIVED
    Bound("at the SYN", lambda seq: half_open(seq=seq), {0: OUT, 1: {}}),
    Bound("data at the SYN", lambda n: half_open(seq=0, payload=b"d" * n), {1: OUT, 2: {}}),
    Bound("below the SYN-ACK", lambda ack: half_open(ack=ack), {0: BAD_ACK, 1: {}}),
    Bound(
        "beyond the SYN-ACK",
        lambda ack: half_open(ack=ack),
        {1: {}, 2: {"ack_unseen": 1}, 1 + 2 * 65535: {"ack_unseen": 1}, 2 + 2 * 65535: BAD_ACK},
    ),
    # RFC 5961 section 3.2
    Bound("a reset of what was acknowledged", reset, {1: {"bad_reset": 1}, 2: {}, 3: {"bad_reset": 1}}),
    Bound("a reset of all", reset, {5: {"bad_reset": 1}, 6: {}, 7: {"bad_reset": 1}}),
    # the end of a stream; RFC 9293 sections 3.8.4 and 3.8.6.1
    Bound("beyond the FIN", after_fin, {6: {}, 7: {"after_fin": 1}}),
    Bound("a keep-alive", keep_alive, {3001: {}, 3000: {"keep_alive": 1}, 2999: {}}),
    Bound("a probe", probe, {3001: {"zero_window_probe": 1}, 3000: {"keep_alive": 1}, 2999: {}}),
    # what a capture may lack, or have in another order
    Bound("a late SYN", late_syn, {REACH: {}, REACH + 1: {"syn_in_connection": 1}}, SIDES),
    Bound(
        "a SYN too late",
        lambda ns: late_syn(10, ns),
        {10**9: {}, 10**9 + 1: {"syn_in_connection": 1}},
        SIDES,
    ),
    Bound(
        "segments of a jump",
        jump,
        {6: {"out_of_window": 6}, 7: {"out_of_window": 7}, 8: {"out_of_window": 7}},
    ),
    Bound(
        "an acknowledgement of a jump",
        jump_acknowledged,
        {REACH: OUT, REACH + 1: OUT | BAD_ACK, -REACH: OUT, -REACH - 1: OUT | BAD_ACK},
    ),
    Bound(
        "an acknowledgement of a jump in a wide window",
        lambda apart: jump_acknowledged(apart, 1 << 26, wide(1024)),
        {1 << 24: OUT, (1 << 24) + 1: OUT | BAD_ACK},
    ),
    Bound(
        "the widest jump",
        lambda ahead: jump_acknowledged(0, ahead),
        {WIDEST: OUT, WIDEST + 1: OUT | BAD_ACK},
    ),
]


def sides() -> Iterator[Any]:
    for bound in BOUNDS:
        for number, anomalies in bound.sides.items():
            yield pytest.param(bound, number, anomalies, id=f"{bound.name}: {number}")


@pytest.mark.parametrize(("bound", "number", "anomalies"), [*sides()])
def test_each_side_of_a_bound(bound: Bound, number: int, anomalies: dict[str, int]) -> None:
    options = dict(bound.options)
    if options.pop("idle", False):
        options["settings"] = Settings(timeouts=Timeouts(established=30 * DAY))
    assert watch(bound.play(number).frames, **options).anomalies == anomalies


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_every_bound_has_two_sides(bound: Bound) -> None:
    """Next to each other, and unlike."""
    assert any(bound.sides.get(number + 1, like) != like for number, like in bound.sides.items())
