"""Simulated links and networks: what they do to frames, and that they do it again."""

from collections import Counter
from functools import partial

import pytest

from aiomos.testing.packets import tcp_frame
from aiomos.transport.sim import EPOCH_NS, Link, Middlebox, Network, Node, SimTransport, Wire

MS = 1_000_000
SECOND = 1_000_000_000


class Sink(Node):
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.arrived: list[tuple[int, bytes]] = []

    def receive(self, frame: bytes, now_ns: int) -> None:
        self.arrived.append((now_ns - EPOCH_NS, frame))


def arrivals(
    link: Link, count: int, *, gap_ns: int = MS, size: int = 100, seed: int = 1
) -> list[tuple[int, ...]]:
    """Send frames at equal distances; return how long each copy took."""
    wire = Wire(link, seed)
    return [tuple(arrival - n * gap_ns for arrival in wire.carry(n * gap_ns, size)) for n in range(count)]


# --- links --------------------------------------------------------------------------------------------


def test_an_ideal_link_takes_no_time() -> None:
    assert arrivals(Link(), 3) == [(0,)] * 3


def test_delay_and_bandwidth_add_up() -> None:
    """100 bytes at 8 Mbit/s take 100 µs to leave."""
    assert arrivals(Link(delay=0.01, bandwidth=8e6), 3) == [(10 * MS + MS // 10,)] * 3


def test_frames_wait_for_those_before_them() -> None:
    assert arrivals(Link(bandwidth=8e6), 3, gap_ns=0) == [(MS // 10,), (2 * MS // 10,), (3 * MS // 10,)]


def test_a_full_queue_drops() -> None:
    """Of ten frames at once, one finds 0 bytes waiting, the next 100, and so on."""
    wire = Wire(Link(bandwidth=8e6, queue=250), 1)
    assert [len(wire.carry(0, 100)) for _ in range(10)] == [1, 1, 1] + [0] * 7
    assert wire.carry(MS, 100) == (MS + MS // 10,)
    assert wire.counts["overflowed"] == 7


def test_jitter_lets_no_frame_overtake() -> None:
    wire = Wire(Link(delay=0.01, jitter=0.02), 1)
    took = [wire.carry(n * MS, 100)[0] - n * MS for n in range(1000)]
    assert all(10 * MS <= each <= 30 * MS for each in took)
    times = [n * MS + each for n, each in enumerate(took)]
    assert times == sorted(times)
    assert len(set(took)) == 1000
    assert (min(took), max(took)) == (12_687_285, 29_963_199)


def test_loss_is_about_what_is_asked_for() -> None:
    lost = sum(not copies for copies in arrivals(Link(loss=0.1), 10_000))
    assert lost == 1041  # of this seed


def test_everything_or_nothing_is_lost() -> None:
    assert not any(arrivals(Link(loss=1), 100))
    assert all(arrivals(Link(loss=0), 100))


@pytest.mark.parametrize(
    ("loss", "burst", "exactly"),
    [(0.1, 1.0, (5038, 5038)), (0.1, 5.0, (4973, 1035)), (0.3, 10.0, (15130, 1536))],
)
def test_bursts_are_as_long_and_losses_as_many_as_asked_for(
    loss: float, burst: float, exactly: tuple[int, int]
) -> None:
    """As many as chance has it, and of this seed exactly so many."""
    copies = arrivals(Link(loss=loss, burst=burst), 50_000)
    lost = sum(not each for each in copies)
    bursts = sum(not each and bool(before) for before, each in zip([(0,), *copies], copies, strict=False))
    assert lost / 50_000 == pytest.approx(loss, rel=0.1)
    assert lost / bursts == pytest.approx(burst, rel=0.1)
    assert (lost, bursts) == exactly


def test_duplicates_arrive_twice() -> None:
    counts = Counter(len(copies) for copies in arrivals(Link(duplicate=0.2), 10_000))
    assert counts == {1: 7942, 2: 2058}


def test_reordered_frames_stay_behind() -> None:
    counts = Counter(took for (took,) in arrivals(Link(reorder=0.2, reorder_delay=0.0025), 10_000))
    assert counts == {0: 7942, 2_500_000: 2058}


def test_a_frame_longer_than_the_mtu_is_lost() -> None:
    """The MTU counts what is behind the Ethernet header; such a frame takes no room in the queue."""
    wire = Wire(Link(mtu=1500, bandwidth=8e6), 1)
    assert [len(wire.carry(0, size)) for size in (1515, 1514, 14)] == [0, 1, 1]
    assert wire.carry(0, 986) == (MS * (1514 + 14 + 986) // 1000,)
    assert wire.counts["too_long"] == 1


def test_one_bit_of_corrupted_frames_is_flipped() -> None:
    wire = Wire(Link(corrupt=0.25, delay=0.001), 1)
    frame = bytes(60)
    flipped = [int.from_bytes(arriving) for n in range(10_000) for _, arriving in wire.convey(n * MS, frame)]
    assert len(flipped) == 10_000
    assert {each.bit_count() for each in flipped} == {0, 1}
    assert sum(map(bool, flipped)) == wire.counts["corrupted"] == 2523  # of this seed
    assert len(set(flipped)) == 480  # all but one of the 480 bits, and none
    assert wire.convey(10**12, b"") == [(10**12 + MS, b"")]


def test_copies_of_a_frame_are_corrupted_apart() -> None:
    wire = Wire(Link(corrupt=0.5, duplicate=1), 1)
    pairs = [tuple(arriving for _, arriving in wire.convey(n * MS, bytes(8))) for n in range(100)]
    assert {len(pair) for pair in pairs} == {2}
    assert any(first != second for first, second in pairs)


def test_an_outage_takes_what_is_sent_or_on_its_way_meanwhile() -> None:
    """From 10 ms on for 5 ms, with a delay of 2 ms: sent from 8 ms until just before 15 ms."""
    start_ns = 7 * SECOND
    wire = Wire(Link(delay=0.002, outages=[(0.010, 0.015), (1, float("inf"))]), 1, start_ns)
    sent = [n for n in range(20) if wire.carry(start_ns + n * MS, 100)]
    assert sent == [*range(8), *range(15, 20)]
    assert wire.counts == Wire(Link(), 1).counts | {"sent": 20, "cut": 7}
    assert not wire.carry(start_ns + 998 * MS, 100)
    assert not wire.carry(start_ns + 10**6 * SECOND, 100)


def test_of_two_copies_an_outage_may_take_one() -> None:
    wire = Wire(Link(delay=0.001, duplicate=1, reorder=0.5, reorder_delay=0.01, outages=[(0.005, 0.006)]), 1)
    copies = [len(wire.carry(0, 100)) for _ in range(100)]
    assert set(copies) == {0, 1, 2}
    assert wire.counts["cut"] == copies.count(0)


def test_the_seed_decides() -> None:
    link = Link(loss=0.3, jitter=0.01, reorder=0.1, duplicate=0.1)
    assert arrivals(link, 1000, seed=7) == arrivals(link, 1000, seed=7)
    assert arrivals(link, 1000, seed=7) != arrivals(link, 1000, seed=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bandwidth": 0},
        {"delay": -1},
        {"jitter": -1},
        {"loss": 1.1},
        {"burst": 0.5},
        {"loss": 0.9, "burst": 2},
        {"reorder": -0.1},
        {"duplicate": 2},
        {"queue": -1},
        {"corrupt": 1.5},
        {"mtu": 0},
        {"outages": [(2, 1)]},
        {"outages": [(-1, 1)]},
        {"outages": [(float("nan"), 1)]},
    ],
)
def test_impossible_links_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - attrs words it
        Link(**wrong)  # type: ignore[arg-type]


# --- networks -----------------------------------------------------------------------------------------


def test_frames_go_both_ways_apart() -> None:
    network, a, b = Network(), Sink(), Sink()
    network.join(a, b, Link(delay=0.001, bandwidth=8e6))
    a.send(bytes(1000))
    b.send(bytes(1000))
    network.run()
    assert a.arrived == b.arrived == [(2 * MS, bytes(1000))]


def test_things_happen_in_order_of_time_then_of_asking() -> None:
    network, a = Network(), Sink()
    network.join(a, Sink())
    order: list[str] = []
    a.call_later(0.002, lambda: order.append("c"))
    a.call_later(0.001, lambda: order.append("a"))
    a.call_at(EPOCH_NS + MS, lambda: order.append("b"))
    late = a.call_later(0.003, lambda: order.append("never"))
    late.cancel()
    a.call_at(0, lambda: order.append("at once"))
    network.run()
    assert order == ["at once", "a", "b", "c"]
    assert network.now_ns == EPOCH_NS + 2 * MS
    assert network.next_ns is None


def test_run_stops_where_it_is_told_to() -> None:
    network, a = Network(), Sink()
    network.join(a, Sink())
    order: list[int] = []
    for n in range(1, 4):
        a.call_later(n / 1000, partial(order.append, n))
    network.run(EPOCH_NS + 2 * MS)
    assert order == [1, 2]
    assert network.now_ns == EPOCH_NS + 2 * MS
    network.run(EPOCH_NS)
    assert network.now_ns == EPOCH_NS + 2 * MS
    network.run(EPOCH_NS + 9 * MS)
    assert network.now_ns == EPOCH_NS + 9 * MS


def test_named_links_have_luck_of_their_own_whatever_was_laid_before() -> None:
    """And each direction its own; without a name it is that of their number."""

    def lost(*, name: str | None, others: int) -> list[list[int]]:
        network, a, b = Network(seed=5), Sink(), Sink()
        for _ in range(others):
            network.join(Sink(), Sink(), Link(loss=0.5))
        cable = network.join(a, b, Link(loss=0.5), name=name)
        assert (cable.first, cable.second) == (a, b)
        assert network.wires[-2:] == [cable.there, cable.back]
        for n in range(50):
            a.send(bytes([n]))
            b.send(bytes([n]))
        network.run()
        assert cable.there.counts["lost"] == 50 - len(b.arrived)
        return [[frame[0] for _, frame in node.arrived] for node in (a, b)]

    there, back = lost(name="x", others=0)
    assert there != back
    assert lost(name="x", others=2) == [there, back] != lost(name="y", others=0)
    assert lost(name=None, others=0) != lost(name=None, others=1)


def test_ways_there_and_back_may_differ() -> None:
    network, a, b = Network(), Sink(), Sink()
    network.join(a, b, Link(delay=0.001), back=Link(delay=0.003))
    a.send(b"there")
    b.send(b"back")
    network.run()
    assert (a.arrived, b.arrived) == ([(3 * MS, b"back")], [(MS, b"there")])


def test_a_network_tells_what_is_sent_and_what_arrives() -> None:
    network, a, b = Network(seed=1), Sink(), Sink()
    network.join(a, b, Link(delay=0.001, loss=0.5))
    told: list[tuple[str, Node, bytes, int]] = []
    network.on_sent = lambda node, frame: told.append(("sent", node, frame, network.now_ns - EPOCH_NS))
    network.on_arrival = lambda node, frame: told.append(("arrived", node, frame, network.now_ns - EPOCH_NS))
    for n in range(4):
        a.send(bytes([n]))
    network.run()
    assert told[:4] == [("sent", a, bytes([n]), 0) for n in range(4)]
    assert told[4:] == [("arrived", b, frame, at) for at, frame in b.arrived]
    assert 0 < len(b.arrived) < 4


def test_a_node_has_one_link() -> None:
    network, a, b = Network(), Sink(), Sink()
    with pytest.raises(RuntimeError, match="not joined"):
        a.send(b"")
    with pytest.raises(ValueError, match="two nodes"):
        network.join(a, a)
    network.join(a, b)
    with pytest.raises(ValueError, match="has a link already"):
        network.join(a, Sink())


# --- middleboxes --------------------------------------------------------------------------------------


def between(*links: Link, in_line: bool = True) -> tuple[Network, Sink, Middlebox, Sink]:
    network, a, b = Network(), Sink(), Sink()
    return network, a, network.middlebox(a, b, *links, in_line=in_line), b


def test_a_middlebox_passes_nothing_on_by_itself() -> None:
    _, a, middlebox, b = between(Link(delay=0.001), Link(delay=0.002))
    assert middlebox.virtual
    assert list(middlebox.forwards) == [1, 0]
    assert not middlebox.read_batch()
    assert middlebox.ended
    a.send(b"one")
    b.send(b"two")
    assert not middlebox.ended
    middlebox.pass_time(None)
    assert middlebox.now() == EPOCH_NS + MS
    assert not middlebox.ended
    assert middlebox.read_batch()
    assert middlebox.batch() == [(EPOCH_NS + MS, b"one", 1, 3, 0)]
    middlebox.send(b"changed", 1)
    middlebox.pass_time(None)
    assert middlebox.read_batch()
    assert middlebox.batch() == [(EPOCH_NS + 2 * MS, b"two", 1, 3, 1)]
    assert not middlebox.read_batch()
    middlebox.pass_time(None)
    assert (a.arrived, b.arrived) == ([], [(3 * MS, b"changed")])
    assert middlebox.ended
    assert middlebox.statistics() == {"received": 2, "dropped": 0, "sent": 1, "unsent": 0}


def test_time_passes_no_further_than_asked_nor_beyond_a_frame() -> None:
    _, a, middlebox, _ = between(Link(delay=0.005))
    a.send(b"frame")
    middlebox.pass_time(EPOCH_NS + 2 * MS)
    assert middlebox.now() == EPOCH_NS + 2 * MS
    assert not middlebox.read_batch()
    middlebox.pass_time(EPOCH_NS + 9 * MS)
    assert middlebox.now() == EPOCH_NS + 5 * MS
    middlebox.pass_time(EPOCH_NS + 9 * MS)
    assert middlebox.now() == EPOCH_NS + 5 * MS
    assert middlebox.read_batch()
    middlebox.pass_time(EPOCH_NS + 9 * MS)
    assert middlebox.now() == EPOCH_NS + 9 * MS


def test_a_tap_lets_frames_by() -> None:
    network, a, tap, b = between(Link(delay=0.001), Link(delay=0.002), in_line=False)
    assert not tap.forwards
    a.send(b"frame")
    network.run()
    assert b.arrived == [(3 * MS, b"frame")]
    assert tap.read_batch()
    assert tap.batch() == [(EPOCH_NS + MS, b"frame", 1, 5, 0)]
    tap.send(b"injected", 0)
    network.run()
    assert a.arrived == [(4 * MS, b"injected")]


def test_a_closed_transport_takes_no_more_frames() -> None:
    network, a, tap, b = between(in_line=False)
    a.send(b"heard")
    network.run()
    tap.close()
    a.send(b"unheard")
    network.run()
    assert b.arrived == [(0, b"heard"), (0, b"unheard")]
    assert tap.statistics() == {"received": 1, "dropped": 1, "sent": 0, "unsent": 0}
    assert tap.receive() == []
    tap.close()


def test_what_is_sent_by_an_interface_without_a_link_is_counted() -> None:
    network, a = Network(), Sink()
    transport = SimTransport(network, ("up", "down"), forwards=[1, 0])
    network.join(a, transport.ports[0])
    assert [interface.name for interface in transport.interfaces] == ["up", "down"]
    transport.send(b"goes", 0)
    transport.send(b"goes nowhere", 1)
    network.run()
    assert a.arrived == [(0, b"goes")]
    assert transport.statistics() == {"received": 0, "dropped": 0, "sent": 1, "unsent": 1}


def test_frames_in_a_batch_are_not_those_of_the_sender() -> None:
    """The engine rewrites them where they lie."""
    _, a, middlebox, _ = between()
    frame = tcp_frame()
    a.send(frame)
    middlebox.pass_time(None)
    ((_, given, _),) = middlebox.receive()
    assert given == frame
    assert given is not frame
