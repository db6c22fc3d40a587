"""What mOS's code gets wrong and a monitor must not.

Letters are those of the rows, from a, of the last table in docs/mos.md; the missing ones are of things that do not
exist yet, or tested where they belong.
"""

from collections.abc import Callable
from functools import partial

import pytest

from aiomos.app import App
from aiomos.engine.engine import Engine
from aiomos.errors import RegistrationError
from aiomos.face.pressure import Pressure
from aiomos.face.streams import MonitorConnection
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import ethernet, ip, udp
from aiomos.testing.scenario import (
    LINKTYPE_ETHERNET,
    Conversation,
    Frame,
    Watcher,
    merge,
    watch,
    watch_in_batches,
)
from aiomos.ude.events import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_START,
    ERROR,
    PKT_IN,
    PKT_OUT,
    REXMIT,
    Event,
    Hook,
)
from aiomos.ude.filters import Filter
from aiomos.ude.user import UserEvent, ude
from tests.events import look, play, story


def test_a_events_raised_by_hand_are_events_like_others() -> None:
    """mOS could neither register a callback for one of its alloc_event() nor build upon it, nor raise it."""
    app: App[None] = App("app")
    called: list[str] = []
    by_hand = app.event("by_hand")
    upon = app.ude(by_hand)(lambda flow: flow.server.port == 80)
    for event in (by_hand, upon):
        app.on(event)(partial(called.append, event.name))
    app.on(CONN_SETUP)(lambda flow: app.emit(by_hand, flow))
    play(Conversation().handshake().frames, app)
    assert called == ["by_hand", upon.name]


@pytest.mark.parametrize("batch", [1, None])
def test_b_stopping_stops(batch: int | None) -> None:
    """In mOS, to stop monitoring both sides changed nothing."""
    app: App[None] = App("app")
    seen: list[str] = []
    app.on(CONN_SETUP)(lambda flow: flow.stop())
    app.on(PKT_IN)(lambda pkt: seen.append(str(pkt)))
    play(Conversation().handshake().client("PA", b"x").server("A").close().frames, app, batch=batch)
    assert len(seen) == 3


def test_c_data_after_the_receivers_own_fin_is_delivered() -> None:
    """mOS skipped data that arrives at an end which has sent its FIN."""
    c = Conversation().handshake().server("FA").client("A").client("PA", b"after your FIN").server("A")
    seen = watch_in_batches(c.client("FA").server("A").frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"after your FIN", "fin")
    told = look(c.frames, CONN_NEW_DATA, lambda m: (m.side, m.half.peek(m.event.offset, m.event.length)))
    assert told == [("client", b"after your FIN")]


def test_d_segment_below_what_was_delivered_is_a_retransmission() -> None:
    """mOS mapped it to an offset 2**32 too large and refused the write."""
    c = Conversation().handshake()
    for _ in range(20):
        c.client("PA", b"x" * 1000).server("A")
    seen = watch_in_batches(
        c.wait(1).client("PA", b"x" * 1000, seq=1).server("A").close().frames, level=Level.STREAM
    )
    assert (len(seen.streams[0][0].data), seen.record["client_retransmits"]) == (20_000, 1)
    assert look(c.frames, REXMIT, lambda m: (m.event.offset, m.event.length)) == [(0, 1000)]


def test_e_verdicts_on_rst_window_and_timestamps_count() -> None:
    """mOS checked no RST, and computed window and PAWS verdicts only to ignore them."""
    c = Conversation().handshake().client("PA", b"a").server("A")
    c.client("R", seq=5000, forged=True).client("PA", b"EVIL", seq=1_000_000, forged=True)
    seen = watch_in_batches(c.client("PA", b"b").server("A").close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"ab"
    assert seen.anomalies == {"bad_reset": 1, "out_of_window": 1}
    assert look(c.frames, ERROR, lambda m: m.event.kind) == ["bad_reset", "out_of_window"]


def test_f_what_is_not_believed_moves_neither_end() -> None:
    """In mOS, a dropped packet still moved the model of its receiver. A monitor drops none; these it does not take."""
    c = Conversation().handshake().client("PA", b"ab").server("A")
    c.client("PA", b"EVIL", seq=1_000_000, forged=True).server("RA", seq=1_000_000, forged=True).client("A")
    states = look(
        c.frames,
        PKT_IN,
        lambda m: [
            (half.state, half.snd_nxt, half.snd_una, half.window) for half in (m.flow.client, m.flow.server)
        ],
        level=Level.BYTES,
    )
    assert states[5] == states[6] == states[4]


def test_g_repeated_syn_starts_nothing_twice() -> None:
    """mOS raised CONN_START again, and no REXMIT."""
    c = (
        Conversation()
        .client("S")
        .wait(1)
        .client("S", seq=0)
        .server("SA")
        .client("A")
        .wait(1)
        .client("S", seq=0)
    )
    seen = watch_in_batches(c.frames)
    assert (seen.setups, seen.statistics["flows"], seen.record["client_retransmits"]) == (1, 1, 2)
    told = " ".join(
        story(c.frames, places=[(CONN_START, hook) for hook in CONN_START.hooks] + [(REXMIT, Hook.RECEIVER)])
    )
    assert told.count("start") == 2  # at two hooks
    assert told.count("rexmit:syn") == 2


def test_h_a_busy_flow_does_not_keep_idle_ones() -> None:
    """mOS never sorted its time-out list anew, so one old busy flow blocked all younger ones."""
    settings = Settings(timeouts=Timeouts(established=30))
    busy = Conversation("10.0.0.1:1").handshake()
    idle = [Conversation(f"10.0.0.1:{number}").wait(1).handshake() for number in range(2, 20)]
    for _ in range(10):
        busy.wait(5).client("PA", b"x").server("A")
    seen = watch_in_batches(merge(busy, *idle), settings=settings)
    assert [record["reason"] for record in seen.records] == ["timeout"] * 18 + ["end_of_capture"]


def test_i_a_full_pool_is_counted() -> None:
    """mOS forwarded silently what found no room."""
    scripts = [Conversation(f"10.0.0.1:{number}").handshake() for number in range(1, 6)]
    seen = watch(merge(*scripts), settings=Settings(budgets=Budgets(flows=2)))
    statistics = seen.statistics
    packets = sum(record["client_packets"] + record["server_packets"] for record in seen.records)
    assert statistics["evicted"] > 0
    assert statistics["tcp"] == packets + statistics["orphans"] + statistics["unwatched"]


def datagram() -> Frame:
    ends = {"src": "10.0.0.1", "dst": "10.0.0.2"}
    frame = ethernet(ip(udp(b"x", **ends), **ends, proto=17))
    return (0, frame, LINKTYPE_ETHERNET, len(frame))


@pytest.mark.parametrize("filter_text", ["", "host 10.0.0.1", "tcp or udp"])
def test_j_every_packet_is_seen_raw_and_once(filter_text: str) -> None:
    """In mOS, a raw socket saw TCP only, and with a filter could see it twice."""
    frames = [datagram(), *Conversation().handshake().client("PA", b"x").frames]
    assert look(frames, PKT_IN, lambda m: m.pkt.proto, hook=Hook.RAW, filter=filter_text) == [17, 6, 6, 6, 6]


def two_rules(frames: list[Frame], size: int) -> list[list[str]]:
    """Names of the rules that were given a connection of each flow: one takes pick-ups, one does not."""
    shown: dict[int, list[str]] = {}
    engine = Engine(Settings(), bytes(16), print)

    def opener(name: str) -> Callable[[Flow], MonitorConnection]:
        def connect(flow: Flow) -> MonitorConnection:
            shown.setdefault(id(flow), []).append(name)
            return MonitorConnection(flow, Pressure(1 << 20, 1 << 20), engine.released, "mark", False)

        return connect

    app = engine.add_account("app")
    for name, midstream in (("any", True), ("whole", False)):
        engine.add_rule(
            Filter("").program, Level.BYTES, account=app, midstream=midstream, opener=opener(name)
        )
    for at in range(0, len(frames), size):
        feed_frames(engine, frames[at : at + size])
    while engine.finish():
        pass
    return list(shown.values())


def test_every_rule_gets_a_connection_whose_syn_came_late() -> None:
    """A flow that turns out whole is shown to those who want whole ones, however the frames are batched."""
    frames = Conversation().server("SA", seq=0, ack=1).client("S", seq=0).client("A").frames
    assert two_rules(frames, len(frames)) == [["any", "whole"]]
    assert two_rules(frames, 1) == [["any", "whole"]]


def test_k_every_callback_of_an_event_runs() -> None:
    """mOS ignored a second callback on one event."""
    engine = Engine(Settings(), bytes(16), print)
    calls: list[str] = []
    program = Filter("").program
    for name in ("first", "second"):
        rule = engine.add_rule(program, Level.STATE)
        engine.add_call(rule, CONN_SETUP, Hook.RECEIVER, partial(calls.append, name), ())
    feed_frames(engine, Conversation().handshake().frames)
    while engine.finish():
        pass
    assert calls == ["first", "second"]


def deep(base: Event) -> UserEvent:
    """An event two levels above a built-in one."""
    return ude(ude(base)(lambda: True))(lambda: True)


def test_l_a_hook_is_judged_by_the_built_in_event_at_the_bottom() -> None:
    """mOS judged by the parent, so that for an event two levels up every hook was wrong, or none."""
    packets = Conversation().handshake().frames
    assert len(look(packets, deep(PKT_IN), lambda m: m.side, hook=Hook.SENDER)) == 3
    for base in (CONN_NEW_DATA, PKT_OUT):
        with pytest.raises(RegistrationError, match=r"Hook.SENDER: \S+ is raised at Hook.RECEIVER"):
            App("app").on(deep(base), hook=Hook.SENDER)


def test_n_the_client_is_the_client() -> None:
    """mOS's address call puts the client first where its header says the server comes first."""
    watcher = Watcher()
    watcher.feed(Conversation("10.0.0.9:50000", "10.0.0.1:80").handshake().frames)
    assert watcher.flow is not None
    assert watcher.flow.key == ("10.0.0.9", 50000, "10.0.0.1", 80)
    assert (watcher.flow.client.address, watcher.flow.server.port) == ("10.0.0.9", 80)
    watcher.finish()
