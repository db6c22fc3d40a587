"""The events of a conversation, in their order: written out, frame by frame (words as in tests/events.py)."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from aiomos import (
    CONN_NEW_DATA,
    CONN_TEARDOWN,
    ORPHAN,
    PKT_IN,
    Budgets,
    Event,
    Hook,
    Level,
    Settings,
    Timeouts,
)
from aiomos.testing.packets import ethernet, fastopen, fragment_ipv4, ip, udp
from aiomos.testing.scenario import LINKTYPE_ETHERNET, START, Conversation, Frame, merge
from tests.events import PLACES, Storyteller, look, play, story

OPENING = [
    "client S: raw <in <start <c:LISTEN>SYN_SENT in start c:LISTEN>SYN_SENT s:LISTEN>SYN_RECEIVED out",
    "server SA: raw <in in c:SYN_SENT>ESTABLISHED out",
    "client A: raw <in in s:SYN_RECEIVED>ESTABLISHED setup out",
]
CLOSE = [
    "client FA: raw <in <c:ESTABLISHED>FIN_WAIT_1 in c:ESTABLISHED>FIN_WAIT_1 s:ESTABLISHED>CLOSE_WAIT out",
    "server A: raw <in in c:FIN_WAIT_1>FIN_WAIT_2 out",
    "server FA: raw <in <s:CLOSE_WAIT>LAST_ACK in s:CLOSE_WAIT>LAST_ACK c:FIN_WAIT_2>TIME_WAIT out",
    "client A: raw <in in s:LAST_ACK>CLOSED out",
]
CLOSE_BY_SERVER = [
    "server FA: raw <in <s:ESTABLISHED>FIN_WAIT_1 in s:ESTABLISHED>FIN_WAIT_1 c:ESTABLISHED>CLOSE_WAIT out",
    "client A: raw <in in s:FIN_WAIT_1>FIN_WAIT_2 out",
    "client FA: raw <in <c:CLOSE_WAIT>LAST_ACK in c:CLOSE_WAIT>LAST_ACK s:FIN_WAIT_2>TIME_WAIT out",
    "server A: raw <in in c:LAST_ACK>CLOSED out",
]
RESET = "server R: raw <in <s:ESTABLISHED>CLOSED in s:ESTABLISHED>CLOSED c:ESTABLISHED>CLOSED out"
END = "then: end:end_of_capture"


@attrs.frozen
class Case:
    """A conversation, and what an app is told of it, one line a frame."""

    name: str
    frames: Sequence[Frame]
    told: list[str]
    settings: Settings = attrs.field(factory=Settings)
    midstream: bool = False


def opened(**options: bytes) -> Conversation:
    return Conversation().handshake(**options)


def later(seconds: float, port: int = 40000) -> Conversation:
    """Another connection from a port."""
    return Conversation(f"10.0.0.1:{port}", client_isn=5000, server_isn=9000, start=START + seconds)


def fragments(frame: bytes) -> list[bytes]:
    return [ethernet(piece) for piece in fragment_ipv4(frame[14:], 24)]


def damage(frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


def datagram(seconds: float) -> Frame:
    ends = {"src": "10.0.0.1", "dst": "10.0.0.2"}
    frame = ethernet(ip(udp(b"x", **ends), **ends, proto=17))
    return (round((START + seconds) * 1e9), frame, LINKTYPE_ETHERNET, len(frame))


CASES = [
    # --- opening ---------------------------------------------------------------------------------------
    Case("three-way handshake", opened().frames, [*OPENING, END]),
    Case(
        "simultaneous open",
        Conversation().client("S").server("S").server("SA", seq=0).client("SA", seq=0).frames,
        [
            OPENING[0],
            "server S: raw <in in c:SYN_SENT>SYN_RECEIVED out",
            "server SA: raw <in rexmit:syn in c:SYN_RECEIVED>ESTABLISHED out",
            "client SA: raw <in rexmit:syn in s:SYN_RECEIVED>ESTABLISHED setup out",
            END,
        ],
    ),
    Case(
        "SYN and SYN-ACK sent again",
        Conversation()
        .client("S")
        .wait(1)
        .client("S", seq=0)
        .server("SA")
        .wait(1)
        .server("SA", seq=0)
        .client("A")
        .frames,
        [
            OPENING[0],
            "client S: raw <in rexmit:syn in out",
            OPENING[1],
            "server SA: raw <in rexmit:syn in out",
            OPENING[2],
            END,
        ],
    ),
    Case(
        "connection refused",
        Conversation().client("S").server("RA").frames,
        [
            OPENING[0],
            "server RA: raw <in <s:SYN_RECEIVED>CLOSED in s:SYN_RECEIVED>CLOSED c:SYN_SENT>CLOSED out",
            "then: end:rst",
        ],
    ),
    Case(
        "SYN-ACK before SYN",  # the SYN-ACK belongs to nobody until the SYN has come
        Conversation().server("SA", seq=0, ack=1).client("S", seq=0).client("A").frames,
        ["server SA: raw", "client S: raw <in <start in start out", OPENING[2], END],
    ),
    Case(
        "SYN-ACK before SYN, taken in mid-stream",
        Conversation().server("SA", seq=0, ack=1).client("S", seq=0).client("A").frames,
        [
            "server SA: raw <in <s:LISTEN>SYN_RECEIVED in s:LISTEN>SYN_RECEIVED c:LISTEN>ESTABLISHED out",
            "client S: raw <in <start in start out",
            OPENING[2],
            END,
        ],
        midstream=True,
    ),
    Case(
        "SYN-ACK whose SYN never comes",
        Conversation().server("SA", seq=0, ack=1).frames,
        ["server SA: raw"],
    ),
    Case(
        "data on the SYN",
        Conversation().client("S", b"early", options=fastopen(b"12345678")).server("SA").client("A").frames,
        [
            OPENING[0].replace("client S", "client S 5"),
            OPENING[1],
            "then: data:c[0:5]",
            OPENING[2],
            END,
        ],
    ),
    Case(
        "data on the SYN, refused and sent again",
        Conversation()
        .client("S", b"early", options=fastopen(b"12345678"))
        .server("SA", ack=1)
        .client("PA", b"early", seq=1)
        .frames,
        [
            OPENING[0].replace("client S", "client S 5"),
            OPENING[1],
            "client PA 5: raw <in rexmit:rto:c[0:5] in s:SYN_RECEIVED>ESTABLISHED setup out",
            "then: data:c[0:5] end:end_of_capture",
        ],
    ),
    Case(
        "handshake completed by data",
        Conversation().client("S").server("SA").client("PA", b"hello").frames,
        [
            *OPENING[:2],
            "client PA 5: raw <in in s:SYN_RECEIVED>ESTABLISHED setup out",
            "then: data:c[0:5] end:end_of_capture",
        ],
    ),
    Case(
        "picked up in mid-stream",  # no start, no setup
        Conversation().client("PA", b"abc").server("A").frames,
        [
            "client PA 3: raw <in <c:LISTEN>ESTABLISHED in c:LISTEN>ESTABLISHED s:LISTEN>ESTABLISHED out",
            "then: data:c[0:3]",
            "server A: raw <in in out",
            END,
        ],
        midstream=True,
    ),
    Case(
        "orphans",
        Conversation().client("PA", b"abc").server("A").client("R").frames,
        ["client PA 3: raw orphan", "server A: raw orphan", "client R: raw orphan"],
    ),
    # --- data ------------------------------------------------------------------------------------------
    Case(
        "data both ways",
        opened().client("PA", b"hello").server("PA", b"world!").client("A").frames,
        [
            *OPENING,
            "client PA 5: raw <in in out",
            "then: data:c[0:5]",
            "server PA 6: raw <in in out",
            "then: data:s[0:6]",
            "client A: raw <in in out",
            END,
        ],
    ),
    Case(
        "retransmissions",
        opened()
        .client("PA", b"hello")
        .wait(1)
        .client("PA", b"hello", seq=1)
        .server("A")
        .client("PA", b"hello", seq=1)
        .frames,
        [
            *OPENING,
            "client PA 5: raw <in in out",
            "then: data:c[0:5]",
            "client PA 5: raw <in rexmit:rto:c[0:5] in out",
            "server A: raw <in in out",
            "client PA 5: raw <in rexmit:spurious:c[0:5] in out",
            END,
        ],
    ),
    Case(
        "fast retransmission into a hole",
        opened()
        .client("PA", b"lost", captured=False)
        .client("PA", b"here")
        .server("A", ack=1)
        .server("A", ack=1)
        .wait(0.004)
        .client("PA", b"lost", seq=1)
        .frames,
        [
            *OPENING,
            "client PA 4: raw <in in out",
            "server A: raw <in in out",
            "server A: raw <in in out",
            "client PA 4: raw <in rexmit:fast:c[0:4] in out",
            "then: data:c[0:8] end:end_of_capture",
        ],
    ),
    Case(
        "overtaken on the way",  # within the round trip of the handshake: nobody sent it again
        opened()
        .client("PA", b"late", captured=False)
        .client("PA", b"here")
        .client("PA", b"late", seq=1)
        .frames,
        [
            *OPENING,
            "client PA 4: raw <in in out",
            "client PA 4: raw <in in out",
            "then: data:c[0:8] end:end_of_capture",
        ],
    ),
    Case(
        "conflict with bytes that were delivered",
        opened().client("PA", b"hello").client("PA", b"heXXo", seq=1).frames,
        [
            *OPENING,
            "client PA 5: raw <in in out",
            "then: data:c[0:5]",
            "client PA 5: raw <in rexmit:rto:c[0:5] error:conflict:c[2:4] in out",
            END,
        ],
    ),
    Case(
        "gap acknowledged",
        opened()
        .client("PA", b"lost", captured=False)
        .client("PA", b"here")
        .server("A")
        .wait(1)
        .client("A")
        .frames,
        [
            *OPENING,
            "client PA 4: raw <in in out",
            "server A: raw <in in out",
            "then: error:gap.lost:c[0:4]",
            "client A: raw <in in out",
            "then: data:c[4:8] end:end_of_capture",
        ],
    ),
    Case(
        "payload cut by the capture",
        opened().client("PA", b"abcdef", snaplen=57).server("A").frames,
        [
            *OPENING,
            "client PA 6: raw <in error:gap.snaplen:c[3:6] in out",
            "then: data:c[0:3]",
            "server A: raw <in in out",
            END,
        ],
    ),
    Case(
        "out of window",
        opened().client("PA", b"evil", seq=1_000_000, forged=True).client("PA", b"ok").frames,
        [
            *OPENING,
            "client PA 4: raw <in error:out_of_window in out",
            "client PA 2: raw <in in out",
            "then: data:c[0:2] end:end_of_capture",
        ],
    ),
    Case(
        "keep-alive",
        opened().client("PA", b"x").server("A").wait(60).client("A", seq=1).server("A").frames,
        [
            *OPENING,
            "client PA 1: raw <in in out",
            "then: data:c[0:1]",
            "server A: raw <in in out",
            "client A: raw <in in out",
            "server A: raw <in in out",
            END,
        ],
    ),
    Case(
        "fragments",
        opened().client("PA", b"A" * 30, change=fragments, ip_id=7).frames,
        [
            *OPENING,
            "fragment at 0: raw",
            "fragment at 24: raw",
            "fragment at 48: raw",
            "client PA 30: <in in out",
            "then: data:c[0:30] end:end_of_capture",
        ],
    ),
    Case(
        "wrong checksum",
        opened().client("PA", b"abc", change=damage).frames,
        [*OPENING, "client PA 3: frame error:malformed.checksum", END],
        Settings(checksums="verify"),
    ),
    Case(
        "header cut by the capture",
        opened().client("PA", b"abc", snaplen=40).frames,
        [*OPENING, "protocol 6: frame error:malformed.tcp_cut", END],
    ),
    Case("another protocol", [*opened().frames, datagram(1)], [*OPENING, "protocol 17: raw", END]),
    # --- close -----------------------------------------------------------------------------------------
    Case("close by the client", opened().close().frames, [*OPENING, *CLOSE, "then: end:fin"]),
    Case(
        "close by the server", opened().close("server").frames, [*OPENING, *CLOSE_BY_SERVER, "then: end:fin"]
    ),
    Case(
        "forgotten at once",
        opened().close().frames,
        [*OPENING, *CLOSE, "then: end:fin"],
        Settings(timeouts=Timeouts(time_wait=0)),
    ),
    Case(
        "data on the FIN",
        opened().client("FPA", b"bye").frames,
        [
            *OPENING,
            "client FPA 3: raw <in <c:ESTABLISHED>FIN_WAIT_1 in c:ESTABLISHED>FIN_WAIT_1 "
            "s:ESTABLISHED>CLOSE_WAIT out",
            "then: data:c[0:3] end:end_of_capture",
        ],
    ),
    Case(
        "simultaneous close",
        opened().client("FA").server("FA", ack=1).client("A").server("A").frames,
        [
            *OPENING,
            CLOSE[0],
            "server FA: raw <in <s:CLOSE_WAIT>CLOSING in s:CLOSE_WAIT>CLOSING c:FIN_WAIT_1>CLOSING out",
            "client A: raw <in in s:CLOSING>TIME_WAIT out",
            "server A: raw <in in c:CLOSING>TIME_WAIT out",
            "then: end:fin",
        ],
    ),
    Case(
        "FIN sent again",
        opened().client("FA").wait(1).client("FA", seq=1).server("A").frames,
        [*OPENING, CLOSE[0], "client FA: raw <in rexmit:fin in out", CLOSE[1], END],
    ),
    Case(
        "reset",
        opened().client("PA", b"abc").server("R", seq=1).frames,
        [*OPENING, "client PA 3: raw <in in out", "then: data:c[0:3]", RESET, "then: end:rst"],
    ),
    Case(
        "reset with a hole before it",
        opened().client("PA", b"abc", captured=False).client("PA", b"def").server("R", seq=1).frames,
        [
            *OPENING,
            "client PA 3: raw <in in out",
            f"{RESET} error:gap.end:c[0:3]",
            "then: data:c[3:6] end:rst",
        ],
    ),
    Case(
        "reset that is not believed",
        opened().client("R", seq=5000, forged=True).close().frames,
        [*OPENING, "client R: raw <in error:bad_reset in out", *CLOSE, "then: end:fin"],
    ),
    # --- ports used again --------------------------------------------------------------------------------
    Case(
        "port used again after a close",
        [*opened().close().frames, *later(0.1).handshake().frames],
        [
            *OPENING,
            *CLOSE,
            "client S: raw",
            "then: end:fin",
            OPENING[0].replace("raw ", ""),
            *OPENING[1:],
            END,
        ],
    ),
    Case(
        "port used again after a reset",
        [*opened().server("R", seq=1).frames, *later(0.1).handshake().frames],
        [
            *OPENING,
            RESET,
            "client S: raw",
            "then: end:rst",
            OPENING[0].replace("raw ", ""),
            *OPENING[1:],
            END,
        ],
    ),
    Case(
        "port used again, the end of the old connection not captured",
        [*opened().frames, *later(0.1).handshake().frames],
        [
            *OPENING,
            "client S: raw <in error:syn_in_connection in out",
            "server SA: raw",
            "then: end:timeout",
            OPENING[0].replace("raw ", ""),  # raised again for the new flow, once that is known to be one
            OPENING[1].replace("raw ", ""),
            OPENING[2],
            END,
        ],
    ),
    # --- ends that are no packet's -------------------------------------------------------------------------
    Case(
        "evicted",
        merge(
            opened().client("PA", b"abc", captured=False).client("PA", b"def"),
            later(1, port=40001).client("S"),
        ),
        [
            *OPENING,
            "client PA 3: raw <in in out",
            "client S: raw",
            "then: error:gap.end:c[0:3] error:evicted data:c[3:6] end:evicted",
            OPENING[0].replace("raw ", ""),
            END,
        ],
        Settings(budgets=Budgets(flows=1)),
    ),
    Case(
        "timed out",
        merge(opened().client("PA", b"abc"), later(200, port=40001).client("S")),
        [
            *OPENING,
            "client PA 3: raw <in in out",
            "then: data:c[0:3] end:timeout",
            OPENING[0],
            END,
        ],
        Settings(timeouts=Timeouts(established=100)),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_events_come_in_this_order(case: Case) -> None:
    settings = attrs.evolve(case.settings, on_error="raise")
    assert story(case.frames, settings=settings, midstream=case.midstream) == case.told


def without_data(lines: list[str]) -> str:
    """All words but those of CONN_NEW_DATA, which wait for the end of a batch."""
    return " ".join(word for line in lines for word in line.split() if word != "then:" and "data" not in word)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_batches_only_move_new_data(case: Case) -> None:
    settings = attrs.evolve(case.settings, on_error="raise")
    for batch in (2, 3, None):
        told = story(case.frames, settings=settings, midstream=case.midstream, batch=batch)
        assert without_data(told) == without_data(case.told)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_higher_level_changes_no_event(case: Case) -> None:
    """What exists at a level is the same at each that is higher."""
    settings = attrs.evolve(case.settings, on_error="raise")
    places = [place for place in PLACES if place[0].level <= Level.STATE and place[0] is not Event.ERROR]
    told = [
        story(case.frames, settings=settings, midstream=case.midstream, places=places, level=level)
        for level in Level
    ]
    assert told[0] == told[1] == told[2]


def test_data_on_both_sides_of_what_was_not_captured_is_two_events() -> None:
    """What has not come is not told of as new."""
    c = opened()
    for byte in (b"a", b"b", b"c"):
        c.client("PA", byte * 10, snaplen=54 + 5)
    c.client("PA", b"d" * 10).client("PA", b"e" * 10)
    stretches = look(c.frames, CONN_NEW_DATA, lambda m: (m.event.offset, m.event.length), batch=None)
    assert stretches == [(0, 5), (10, 5), (20, 5), (30, 20)]


def test_data_of_a_batch_is_one_event_a_half() -> None:
    c = opened().client("PA", b"ab").server("PA", b"123").client("PA", b"cde").server("PA", b"45")
    assert story(c.frames, batch=None)[-1] == "then: data:c[0:5] data:s[0:5] end:end_of_capture"


def test_data_comes_before_the_end_of_its_flow_in_the_same_batch() -> None:
    """And that before what the next packet brings."""
    frames = [*opened().client("PA", b"ab").server("R", seq=1).frames, *later(0.1).client("S").frames]
    assert story(frames, batch=None)[5:] == [
        "client S: raw",
        "then: data:c[0:2] end:rst",
        OPENING[0].replace("raw ", ""),
        END,
    ]


def count(frames: Sequence[Frame], event: Event, hook: Hook, chosen: str) -> int:
    """How often a callback for packets without a flow is called."""
    teller = Storyteller([(event, hook)], filter=chosen)
    play(frames, teller.app)
    return len(teller.notes)


def test_a_syn_that_no_filter_wants_is_an_orphan() -> None:
    frames = [*later(0, port=1).client("S").frames, *later(1, port=2).client("S").frames]
    assert count(frames, ORPHAN, Hook.RECEIVER, "") == 2
    told = story(
        frames, places=[(ORPHAN, Hook.RECEIVER), (CONN_TEARDOWN, Hook.RECEIVER)], filter="client port 1"
    )
    assert told == [END]


@pytest.mark.parametrize("place", [(ORPHAN, Hook.RECEIVER), (PKT_IN, Hook.RAW)], ids=str)
def test_filters_pick_packets_without_a_flow_by_their_sender(place: tuple[Event, Hook]) -> None:
    """Such a packet's sender counts as the client."""
    frames = Conversation().client("A").server("A").client("A").frames
    counts = [
        count(frames, *place, chosen)
        for chosen in ("client port 40000", "server port 40000", "port 40000", "port 1")
    ]
    assert counts == [2, 1, 3, 0]
