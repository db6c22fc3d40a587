"""The flow table against a dict, at random; growth, deletion and colliding hashes."""

import random
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address

import pytest

from aiomos.levels import Level
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.testing.scenario import Frame, Watcher

SERVER = int(IPv4Address("10.255.0.1"))
SYN, RST, ACK = 0x02, 0x04, 0x10
ISS = 0xFFFFFFFF
TIMES = range(1_700_000_000_000_000_000, 1 << 62, 1_000_000)


def segment(src: int, sport: int, dst: int, dport: int, *, seq: int, ack: int, flags: int) -> bytes:
    """An Ethernet frame with a bare TCP segment; checksums are left out, for speed."""
    return struct.pack(
        "!12xHBxHIBBHIIHHIIBBHI", 0x0800, 0x45, 40, 0, 64, 6, 0, src, dst,
        sport, dport, seq, ack, 0x50, flags, 65535, 0)  # fmt: skip


class Tuple:
    """The frames one connection can send: by the client SYN, data and RST, by the server an ACK."""

    def __init__(self, client: int, port: int) -> None:
        here, there = (client, port), (SERVER, 443)
        self.syn = segment(*here, *there, seq=ISS, ack=0, flags=SYN)
        self.from_client = segment(*here, *there, seq=(ISS + 1) % 2**32, ack=7, flags=ACK)
        self.from_server = segment(*there, *here, seq=7, ack=(ISS + 1) % 2**32, flags=ACK)
        self.reset = segment(*here, *there, seq=(ISS + 1) % 2**32, ack=0, flags=RST)
        self.key = (str(IPv4Address(client)), port)


def feed(watcher: Watcher, frames: Iterable[bytes], size: int = 4096) -> None:
    batch: list[Frame] = []
    for time_ns, frame in zip(TIMES, frames, strict=False):
        batch.append((time_ns, frame, 1, len(frame)))
        if len(batch) == size:
            watcher.feed(batch)
            batch = []
    watcher.feed(batch)


def settings(flows: int = 1 << 20) -> Settings:
    """Flows end only by RST, and at once, so that a dict can say which are there."""
    return Settings(
        budgets=Budgets(flows=flows, half_open=flows),
        timeouts=Timeouts(half_open=86_400, established=86_400, reset=0),
    )


def play(tuples: Sequence[Tuple], count: int, seed: int) -> None:
    """Do *count* random operations on engine and model, and compare every flow's packets and all orphans."""
    draw = random.Random(seed)
    model: dict[tuple[str, int], list[int]] = {}
    ended: list[tuple[str, int, int, int]] = []
    frames: list[bytes] = []
    orphans = 0
    for number in draw.choices(range(len(tuples)), k=count):
        one = tuples[number]
        what = draw.random()
        flow = model.get(one.key)
        if what < 0.3:
            frames.append(one.syn)
            flow = model.setdefault(one.key, [0, 0])
            flow[0] += 1
        elif what < 0.55:
            frames.append(one.from_client)
            orphans += flow is None
            if flow:
                flow[0] += 1
        elif what < 0.8:
            frames.append(one.from_server)
            orphans += flow is None
            if flow:
                flow[1] += 1
        else:
            frames.append(one.reset)
            orphans += flow is None
            if flow:
                ended.append((*one.key, flow[0] + 1, flow[1]))
                del model[one.key]
    watcher = Watcher(level=Level.STATE, settings=settings())
    feed(watcher, frames)
    assert watcher.engine.statistics()["open"] == len(model)
    seen = watcher.finish()
    rows = [(r["client"], r["client_port"], r["client_packets"], r["server_packets"]) for r in seen.records]
    assert rows[: len(ended)] == ended
    assert sorted(rows[len(ended) :]) == sorted((*key, *packets) for key, packets in model.items())
    assert (seen.statistics["orphans"], seen.statistics["tcp"]) == (orphans, count)


@pytest.mark.parametrize(
    ("flows", "count", "seed"),
    [(50, 100_000, 1), (1500, 200_000, 2), (20_000, 400_000, 3)],
    ids=["few", "table nearly full", "growing"],
)
def test_random_operations_against_a_dict(flows: int, count: int, seed: int) -> None:
    """Both directions find the one flow, a removed flow is gone, and nothing else is touched."""
    base = int(IPv4Address("10.0.0.0"))
    play([Tuple(base + number % 251, 1024 + number // 251) for number in range(flows)], count, seed)


def test_growth_keeps_all_flows() -> None:
    """The table doubles several times on the way to 40,000 flows; each is then found from its other side."""
    base = int(IPv4Address("10.0.0.0"))
    tuples = [Tuple(base + number, 1024 + number % 50_000) for number in range(40_000)]
    watcher = Watcher(level=Level.STATE, settings=settings())
    feed(watcher, (one.syn for one in tuples))
    feed(watcher, (one.from_server for one in tuples))
    assert watcher.engine.statistics()["orphans"] == 0
    seen = watcher.finish()
    assert len(seen.records) == 40_000
    assert {(r["client_packets"], r["server_packets"]) for r in seen.records} == {(1, 1)}


def test_colliding_hashes() -> None:
    """Whoever knows the key can aim at one slot; even then every flow is found."""
    probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")
    slots, wanted = 4096, {4094, 4095, 0}
    tuples = []
    for client in range(int(IPv4Address("10.0.0.0")), int(IPv4Address("10.0.2.0"))):
        for port in range(1024, 1324):
            frame = segment(client, port, SERVER, 443, seq=ISS, ack=0, flags=SYN)
            if probe.flow_hash(0, 0, frame) % slots in wanted:  # the watcher's key is zero
                tuples.append(Tuple(client, port))
    assert len(tuples) > 60
    play(tuples, 50_000, 4)


def test_address_pairs_with_one_xor_are_different_flows() -> None:
    """FIELD note 16: a key that XORs addresses joins strangers."""
    base = int(IPv4Address("10.0.0.0"))
    tuples = [Tuple(base + number, 5000 ^ number) for number in range(1000)]
    watcher = Watcher(level=Level.STATE, settings=settings())
    feed(watcher, (one.syn for one in tuples))
    assert len(watcher.finish().records) == 1000


def test_a_connection_to_itself_is_one_flow() -> None:
    """Equal addresses are told apart by port; equal ends on both sides are simply one key."""
    src = int(IPv4Address("127.0.0.1"))
    watcher = Watcher(settings=settings())
    feed(watcher, [
        segment(src, 5000, src, 80, seq=1, ack=0, flags=SYN),
        segment(src, 80, src, 5000, seq=9, ack=2, flags=SYN | ACK),
        segment(src, 5000, src, 80, seq=2, ack=10, flags=ACK),
        segment(src, 7000, src, 7000, seq=1, ack=0, flags=SYN),
        segment(src, 7000, src, 7000, seq=1, ack=2, flags=SYN | ACK),
    ])  # fmt: skip
    records = watcher.finish().records
    assert [(r["client_port"], r["server_port"]) for r in records] == [(5000, 80), (7000, 7000)]
    assert records[0]["server_state"] == "ESTABLISHED"
