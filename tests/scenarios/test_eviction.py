"""Budgets: who is given up to make room, in which order, and that no budget is ever exceeded."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.testing.scenario import START, Conversation, Frame, Watcher, merge, watch, watch_in_batches


def conversation(number: int, start: float = 0.0) -> Conversation:
    """One of many connections, told apart by the client's port; *start* is in seconds."""
    return Conversation(f"10.0.0.1:{number}", start=START + start)


def syn(number: int, start: float) -> list[Frame]:
    return conversation(number, start).client("S").frames


def limited(flows: int, half_open: int = 1 << 18) -> Settings:
    return Settings(budgets=Budgets(flows=flows, half_open=half_open))


def ports(watcher: Watcher) -> list[int]:
    return [record["client_port"] for record in watcher.records]


def test_closed_flows_go_first_then_half_open_ones_then_the_idle() -> None:
    """DESIGN section 10: the cheapest loss first, and each counted as what it is."""
    watcher = Watcher(settings=limited(4))
    watcher.feed(conversation(1, 0).handshake().frames)
    watcher.feed(syn(2, 1))
    watcher.feed(conversation(3, 2).handshake().close().frames)
    watcher.feed(conversation(4, 3).handshake().client("R").frames)
    order = []
    for number in range(5, 9):
        watcher.feed(conversation(number, number).handshake().frames)
        order.append(ports(watcher)[-1])
    assert order == [3, 4, 2, 1]
    assert [record["reason"] for record in watcher.records] == ["fin", "rst", "evicted", "evicted"]
    statistics = watcher.finish().statistics
    assert (statistics["released_early"], statistics["evicted"]) == (2, 2)


def test_closed_longest_goes_first() -> None:
    """In the order of their closing, not of their opening."""
    watcher = Watcher(settings=limited(3))
    scripts = [conversation(number).handshake() for number in (1, 2, 3)]
    watcher.feed(merge(*scripts))
    for number in (2, 3, 1):
        script = scripts[number - 1]
        before = len(script.frames)
        watcher.feed(script.wait(number).close().frames[before:])
    for number in (4, 5, 6):
        watcher.feed(conversation(number, 10).handshake().frames)
    assert ports(watcher) == [2, 3, 1]
    watcher.finish()


def test_oldest_half_open_flow_goes_first() -> None:
    """By when its SYN came, however often that is repeated."""
    watcher = Watcher(settings=limited(3))
    for number in (1, 2, 3):
        watcher.feed(syn(number, number))
    watcher.feed(syn(1, 4))
    for number in (4, 5):
        watcher.feed(syn(number, number))
    assert ports(watcher) == [1, 2]
    watcher.finish()


def test_oldest_half_open_flow_goes_first_at_the_budget_of_flows() -> None:
    """Which has its own: those that are established stay."""
    watcher = Watcher(settings=limited(5))
    for number in (1, 2):
        watcher.feed(conversation(number).handshake().frames)
    for number in (5, 3, 4):
        watcher.feed(syn(number, 1))
    for number in (6, 7):
        watcher.feed(conversation(number, 2).handshake().frames)
    assert ports(watcher) == [5, 3]
    watcher.finish()


def test_idle_longest_goes_first() -> None:
    """Not the oldest: one that talks stays."""
    watcher = Watcher(settings=limited(20))
    scripts = [conversation(number).handshake() for number in range(20)]
    watcher.feed(merge(*scripts))
    for turn, number in enumerate(list(range(10, 20)) + list(range(10))):
        before = len(scripts[number].frames)
        scripts[number].wait(5 + 2 * turn).client("PA", b"x")
        watcher.feed(scripts[number].frames[before:])
    for number in range(100, 120):
        watcher.feed(conversation(number, 100 + number).handshake().frames)
    assert ports(watcher) == list(range(10, 20)) + list(range(10))
    watcher.finish()


def test_idle_longest_with_time_outs_beyond_the_wheel() -> None:
    """The order must not depend on how far a deadline lies ahead."""
    settings = Settings(budgets=Budgets(flows=10), timeouts=Timeouts(established=30 * 86_400))
    watcher = Watcher(settings=settings)
    scripts = [conversation(number, 10 * number).handshake() for number in range(10)]
    watcher.feed(merge(*scripts))
    before = len(scripts[0].frames)
    watcher.feed(scripts[0].wait(500).client("PA", b"x").frames[before:])
    for number in range(100, 109):
        watcher.feed(conversation(number, 600 + number).handshake().frames)
    assert ports(watcher) == list(range(1, 10))
    watcher.finish()


def test_syn_flood_leaves_established_flows_alone() -> None:
    """The half-open budget bounds what a flood can take."""
    opening = [conversation(number).handshake() for number in range(1, 51)]
    flood = [frame for i in range(3000) for frame in syn(1000 + i, 1 + i / 1000)]
    going_on = [conversation(number, 10).client("PA", b"alive", seq=1, ack=1) for number in range(1, 51)]
    seen = watch(merge(*opening) + flood + merge(*going_on), settings=limited(10_000, half_open=100))
    alive = [record for record in seen.records if record["client_port"] <= 50]
    assert [record["client_bytes"] for record in alive] == [5] * 50
    assert {record["reason"] for record in alive} == {"end_of_capture"}
    assert seen.statistics["evicted"] == 2900


def test_syn_flood_at_the_flow_budget_takes_half_open_flows_only() -> None:
    """Established flows go last, so a flood only replaces itself."""
    good = [conversation(number).handshake() for number in range(1, 51)]
    flood = [frame for i in range(1000) for frame in syn(1000 + i, 1 + i / 1000)]
    seen = watch(merge(*good) + flood, settings=limited(60))
    assert {r["client_port"] for r in seen.records if r["reason"] == "end_of_capture"} >= set(range(1, 51))


def test_handshakes_complete_under_a_flood() -> None:
    """A real client answers faster than a flood turns the half-open budget over."""
    frames = []
    for i in range(300):
        frames += syn(10_000 + i, i / 100)
        frames += conversation(i + 1, i / 100 + 0.0001).handshake().frames
    seen = watch(frames, settings=limited(10_000, half_open=10))
    assert seen.setups == 300
    assert sum(record["reason"] == "end_of_capture" for record in seen.records) >= 300


@pytest.mark.parametrize("flows", [1, 2, 7])
@pytest.mark.parametrize("half_open", [1, 3, 100])
def test_no_budget_is_ever_exceeded(flows: int, half_open: int) -> None:
    """After each frame, whatever mix of states the flows are in; every flow opened has its record."""
    watcher = Watcher(settings=limited(flows, half_open), level=Level.STREAM)
    scripts = []
    for number in range(1, 60):
        script = conversation(number, number / 10).client("S")
        if number % 3:
            script.server("SA").client("A").client("PA", b"data")
        if number % 5 == 0:
            script.close()
        scripts.append(script)
    for frame in merge(*scripts):
        watcher.feed([frame])
        assert watcher.engine.statistics()["open"] <= flows
    seen = watcher.finish()
    assert len(seen.records) == seen.statistics["flows"]
    assert seen.statistics["no_memory"] == 0


def test_an_evicted_flow_tells_its_readers() -> None:
    """DESIGN principle 5: what it had is delivered, and then the eviction is raised."""
    settings = limited(1)
    first = conversation(1).handshake().client("PA", b"hello")
    frames = first.frames + conversation(2, 1).handshake().frames
    seen = watch_in_batches(frames, settings=settings, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, client.error, server.error) == (b"hello", "ConnectionEvicted", "ConnectionEvicted")


def test_segments_of_an_evicted_flow_are_orphans() -> None:
    """Without permission to pick up it does not come back."""
    first = conversation(1).handshake()
    before = len(first.frames)
    first.wait(2).client("PA", b"x").server("A")
    frames = first.frames[:before] + conversation(2, 1).handshake().frames + first.frames[before:]
    seen = watch_in_batches(frames, settings=limited(1))
    assert (len(seen.records), seen.statistics["orphans"]) == (2, 2)


def test_records_at_the_end_are_in_the_order_in_which_connections_began() -> None:
    """Behind those of evicted ones, and in any batches: captures read from a pipe come in batches of any size."""
    frames = [frame for number in range(1, 9) for frame in syn(number, number)]
    frames += conversation(9, 9).handshake().frames + conversation(10, 10).handshake().frames
    seen = watch_in_batches(frames, settings=limited(100, half_open=3))
    assert [(record["client_port"], record["reason"]) for record in seen.records] == [
        *((port, "evicted") for port in range(1, 7)),  # each SYN beyond three lets the first go
        *((port, "end_of_capture") for port in range(7, 11)),
    ]


def test_doubted_syns_are_bounded_and_given_back() -> None:
    """A SYN in each live connection needs a record each; more than there are of them are just ignored."""
    scripts = [
        conversation(number).handshake().client("S", seq=99_999, forged=True) for number in range(1, 101)
    ]
    seen = watch(merge(*scripts), settings=limited(100))
    assert (len(seen.records), seen.anomalies) == (100, {"syn_in_connection": 100})
