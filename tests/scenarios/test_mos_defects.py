"""What mOS gets wrong and a monitor must not (FIELD 2.9); those about other parts are tested with them."""

from collections.abc import Callable
from functools import partial

from aiomos.engine import Engine
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.tcp.levels import Level
from aiomos.tcp.streams import MonitorConnection, Pressure
from aiomos.tcp.views import Flow
from aiomos.testing.scenario import Conversation, Frame, Watcher, merge, watch, watch_in_batches
from aiomos.ude.filters import Filter


def test_c_data_after_the_receivers_own_fin_is_delivered() -> None:
    """mOS skipped data that arrives at an end which has sent its FIN."""
    c = Conversation().handshake().server("FA").client("A").client("PA", b"after your FIN").server("A")
    seen = watch_in_batches(c.client("FA").server("A").frames, level=Level.STREAM)
    assert (seen.streams[0][0].data, seen.record["reason"]) == (b"after your FIN", "fin")


def test_d_segment_below_what_was_delivered_is_a_retransmission() -> None:
    """mOS mapped it to an offset 2**32 too large and refused the write."""
    c = Conversation().handshake()
    for _ in range(20):
        c.client("PA", b"x" * 1000).server("A")
    seen = watch_in_batches(
        c.wait(1).client("PA", b"x" * 1000, seq=1).server("A").close().frames, level=Level.STREAM
    )
    assert (len(seen.streams[0][0].data), seen.record["client_retransmits"]) == (20_000, 1)


def test_e_verdicts_on_rst_window_and_timestamps_count() -> None:
    """mOS checked no RST, and computed window and PAWS verdicts only to ignore them."""
    c = Conversation().handshake().client("PA", b"a").server("A")
    c.client("R", seq=5000, forged=True).client("PA", b"EVIL", seq=1_000_000, forged=True)
    seen = watch_in_batches(c.client("PA", b"b").server("A").close().frames, level=Level.STREAM)
    assert seen.streams[0][0].data == b"ab"
    assert seen.anomalies == {"bad_reset": 1, "out_of_window": 1}


def test_g_repeated_syn_starts_nothing_twice() -> None:
    """mOS raised CONN_START again, and no REXMIT."""
    c = Conversation().client("S").client("S", seq=0).server("SA").client("A").client("S", seq=0)
    seen = watch_in_batches(c.frames)
    assert (seen.setups, seen.statistics["flows"], seen.record["client_retransmits"]) == (1, 1, 2)


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


def two_rules(frames: list[Frame], size: int) -> list[list[str]]:
    """Names of the rules that were given a connection of each flow: one takes pick-ups, one does not."""
    shown: dict[int, list[str]] = {}
    engine = Engine(Settings(), bytes(16), print)

    def opener(name: str) -> Callable[[Flow], MonitorConnection]:
        def connect(flow: Flow) -> MonitorConnection:
            shown.setdefault(id(flow), []).append(name)
            return MonitorConnection(flow, Pressure(1 << 20, 1 << 20), engine.released, "mark", False)

        return connect

    for name, midstream in (("any", True), ("whole", False)):
        engine.add_rule(Filter("").program, Level.BYTES, midstream=midstream, opener=opener(name))
    for at in range(0, len(frames), size):
        engine.feed_frames(frames[at : at + size])
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
        engine.add_rule(program, Level.STATE, calls=[("conn_setup", partial(calls.append, name), ())])
    engine.feed_frames(Conversation().handshake().frames)
    while engine.finish():
        pass
    assert calls == ["first", "second"]


def test_n_the_client_is_the_client() -> None:
    """mOS's address call puts the client first where its header says the server comes first."""
    watcher = Watcher()
    watcher.feed(Conversation("10.0.0.9:50000", "10.0.0.1:80").handshake().frames)
    assert watcher.flow is not None
    assert watcher.flow.key == ("10.0.0.9", 50000, "10.0.0.1", 80)
    assert (watcher.flow.client.address, watcher.flow.server.port) == ("10.0.0.9", 80)
    watcher.finish()
