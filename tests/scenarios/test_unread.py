"""What is not read is never silent: counted by its number, and logged where connections may hide in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

import aiomos
from aiomos import App, Level, MonitorConnection, Settings
from aiomos.console.metrics import place
from aiomos.engine.engine import Engine
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import ethernet, ipv4, tcp
from aiomos.testing.scenario import START, Conversation, Frame
from aiomos.transport.writer import CaptureWriter
from aiomos.wire.protocols import Layer
from aiomos.wire.sharding import shard_of_ends
from tests.wrappings import LINKS, amsdu, cooked, llc, macsec, of, wlan

ARP = ethernet(bytes(28), ethertype=0x0806)
BEACON = b"\x80\0" + bytes(60)
AGGREGATE = b"\x88\x02", b"\x80\0"


def frames_of(*frames: tuple[bytes, int]) -> list[Frame]:
    return [
        (round((START + i) * 1e9), data, linktype, len(data)) for i, (data, linktype) in enumerate(frames)
    ]


def engine_of(frames: Iterable[Frame], **options: Any) -> Engine:
    def fail(*args: object) -> None:
        raise AssertionError(args)

    engine = Engine(Settings(), bytes(16), fail, **options)
    feed_frames(engine, frames)
    return engine


def write(path: Path, frames: Iterable[Frame]) -> Path:
    """Write a capture with an interface of each link type."""
    interfaces = {1: 0}
    with CaptureWriter(path, format="pcapng") as writer:
        for time_ns, data, linktype, _ in frames:
            if linktype not in interfaces:
                interfaces[linktype] = writer.add_interface(linktype=linktype)
            writer.write(time_ns, data, interface=interfaces[linktype])
    return path


def unread_of(engine: Engine) -> dict[str, int]:
    return {
        name.removeprefix("unread."): count
        for name, count in engine.statistics().items()
        if name.startswith("unread.")
    }


def test_frames_are_counted_by_the_name_of_what_is_not_read() -> None:
    engine = engine_of(
        frames_of(
            (ARP, 1),
            (ethernet(bytes(40), ethertype=0x1234), 1),
            (ARP, 1),
            (bytes(60), 147),
            (BEACON, 105),
            (ethernet(ipv4(bytes(8), proto=132)), 1),
            (ethernet(ipv4(bytes(8), proto=253)), 1),
            (wlan(bytes(60), b"\x08\x42"), 105),
            (ethernet(ipv4(tcp())), 1),
        )
    )
    assert unread_of(engine) == {
        "ethertype.arp": 2,
        "ethertype.0x1234": 1,
        "linktype.user0": 1,
        "control.ieee802_11": 1,
        "protocol.sctp": 1,
        "protocol.253": 1,
        "encrypted.ieee802_11": 1,
    }
    assert engine.unread()[:2] == [(1, 0x0806, 2), (1, 0x1234, 1)]
    counters = engine.statistics()
    assert (counters["non_ip"], counters["unknown_link"], counters["ip_other"]) == (5, 1, 2)
    assert counters["unread_other"] == 0


@pytest.mark.parametrize("number", [0x0060, 0x05FF, 0x0600])
def test_a_number_where_none_is_a_length(number: int) -> None:
    assert engine_of(frames_of((cooked(number, bytes(40)), 113))).unread() == [(Layer.ETHERTYPE, number, 1)]


def test_each_that_may_hide_connections_is_logged_once(tmp_path: Path) -> None:
    hidden = of(0x88E5, lambda packet: macsec(packet, 0x0C))(ipv4(tcp()))
    path = write(
        tmp_path / "a.pcapng",
        frames_of((ARP, 1), *[(bytes(60), 147)] * 2, *[(hidden, 1)] * 2, (bytes(60), 147), (bytes(60), 148)),
    )
    with capture_logs() as logs:
        aiomos.run(pcap=[path], loop="asyncio")
    told = [(log["layer"], log["number"], log["name"]) for log in logs if log["event"] == "not_read"]
    assert told == [("linktype", 147, "user0"), ("encrypted", 1, "macsec"), ("linktype", 148, "user1")]
    assert {log["log_level"] for log in logs} == {"warning"}


@pytest.mark.parametrize("step", [1, 7, 256])
def test_numbers_are_bounded_and_the_rest_is_counted(step: int) -> None:
    """Whoever sends frames chooses their numbers, and must not choose how much memory they take."""
    numbers = [0x6600 + step * i for i in range(300) if 0x6600 + step * i < 0x8000 or step < 256]
    numbers = (numbers * 300)[:300] if step == 256 else numbers
    frames = frames_of(*((ethernet(bytes(40), ethertype=number), 1) for number in numbers))
    engine = engine_of(frames)
    feed_frames(engine, frames)
    kept = dict.fromkeys(numbers[:256])
    counted = engine.unread()
    assert [number for _, number, _ in counted] == list(kept)
    assert sum(count for _, _, count in counted) == 2 * sum(number in kept for number in numbers)
    assert engine.statistics()["unread_other"] == 2 * sum(number not in kept for number in numbers)


def test_the_table_is_full_of_numbers_that_differ_in_their_layer_alone() -> None:
    frames = frames_of((ethernet(bytes(40), ethertype=0x0806), 1), (b"\xff\x03\x08\x06" + bytes(40), 9))
    assert engine_of(frames).unread() == [(1, 0x0806, 1), (4, 0x0806, 1)]


def test_each_counter_has_a_metric_with_its_layer_and_name() -> None:
    assert [
        (metric.name, labels) for metric, labels in map(place, ("unread.ethertype.arp", "unread_other"))
    ] == [
        ("unread", {"layer": "ethertype", "name": "arp"}),
        ("unread_other", {}),
    ]


# --- 802.11 aggregates ----------------------------------------------------------------------------


def packets_of(frames: Iterable[Frame]) -> list[bytes]:
    return [data[14:] for _, data, _, _ in frames]


def aggregated(*packets: bytes) -> bytes:
    control, qos = AGGREGATE
    return wlan(amsdu(*map(llc, packets)), control, qos)


def test_a_connection_within_aggregates_is_followed(tmp_path: Path) -> None:
    """All segments in two frames, with something else between them: each counts as one that came by itself."""
    talk = Conversation().handshake().client("PA", b"hello").server("PA", b"answer").close()
    packets = packets_of(talk.frames)
    frames = frames_of(
        (aggregated(*packets[:3], ipv4(bytes(8), proto=132)), 105), (aggregated(*packets[3:]), 105)
    )
    app, read = App("watch"), []

    @app.monitor(level=Level.STREAM)
    async def watch(conn: MonitorConnection) -> None:
        client, server = await asyncio.gather(conn.client.read(), conn.server.read())
        read.append((bytes(client), bytes(server), await conn.closed()))

    counters = aiomos.run(app, pcap=[write(tmp_path / "air.pcapng", frames)]).counters
    assert read == [(b"hello", b"answer", "fin")]
    assert (counters["frames"], counters["aggregates"], counters["tcp"]) == (2, 2, len(packets))
    assert counters["unread.protocol.sctp"] == 1


def test_each_share_takes_its_own_out_of_an_aggregate() -> None:
    flows = [Conversation(f"10.0.0.1:{port}").handshake().close() for port in range(40_000, 40_016)]
    packets = [packet for talk in flows for packet in packets_of(talk.frames)]
    frames = frames_of(*((aggregated(*packets[i : i + 9]), 105) for i in range(0, len(packets), 9)))
    shares = [shard_of_ends(("10.0.0.1", port), ("10.0.0.2", 80), 3) for port in range(40_000, 40_016)]
    engines = [engine_of(frames, shard=(index, 3)) for index in range(3)]
    for index, engine in enumerate(engines):
        counters = engine.statistics()
        assert counters["tcp"] == len(packets) // 16 * shares.count(index)
    assert all(shares.count(index) for index in range(3))
    assert sum(engine.statistics()["frames"] for engine in engines) == len(frames)
    assert sum(engine.statistics()["aggregates"] for engine in engines) == len(frames)


# --- every way at once ----------------------------------------------------------------------------


def test_one_connection_over_links_of_every_kind(tmp_path: Path) -> None:
    """A capture may change its link type with every frame; a flow does not care."""
    talk = Conversation().handshake()
    for number in range(len(LINKS)):
        talk.client("PA", bytes([65 + number % 26]))
    packets = packets_of(talk.close().frames)
    ways = list(LINKS.values())
    frames = [
        (time_ns, (data := ways[i % len(ways)].wrap(packet)), ways[i % len(ways)].linktype, len(data))
        for i, ((time_ns, *_), packet) in enumerate(zip(talk.frames, packets, strict=True))
    ]
    app, read = App("watch"), []

    @app.monitor(level=Level.STREAM)
    async def watch(conn: MonitorConnection) -> None:
        read.append(bytes(await conn.client.read()))

    aiomos.run(app, pcap=[write(tmp_path / "links.pcapng", frames)])
    assert read == [bytes(65 + number % 26 for number in range(len(LINKS)))]
