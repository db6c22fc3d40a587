"""Several workers in line: fragments come to all of them, and the packet goes on once, by the one that has its flow."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from aiomos import ORPHAN, App, Packet, Runtime, Settings
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import ethernet, fragment_ipv4, fragment_ipv6, ipv4, ipv6, tcp, udp
from aiomos.transport.interfaces import Interface
from aiomos.transport.transport import Transport
from aiomos.wire.sharding import shard_of
from tests.traffic import START_NS, in_loop

WORKERS = 3


class Recorder(Transport):
    """A wire that keeps what is sent."""

    forwards = (1, 0)

    def __init__(self) -> None:
        self.interfaces.extend(Interface("", f"end{number}", 1, 0) for number in (0, 1))
        self.sent: list[bytes] = []

    def send(self, frame: bytes, interface: int = 0) -> None:
        """Keep a frame."""
        assert interface == 1
        self.sent.append(frame)


def cut(packet: bytes, size: int) -> list[bytes]:
    """Cut an IP packet into frames with fragments of it."""
    fragments = fragment_ipv4(packet, size) if packet[0] >> 4 == 4 else fragment_ipv6(packet, size)
    return [ethernet(fragment) for fragment in fragments]


def packets() -> list[bytes]:
    """Build a packet of each of several flows, TCP and UDP, IPv4 and IPv6."""
    made = []
    for port in range(1000, 1012):
        ends: dict[str, Any] = {"sport": port, "dport": 80}
        v4, v6 = {"src": "10.0.0.1", "dst": "10.0.0.2"}, {"src": "2001:db8::1", "dst": "2001:db8::2"}
        data = port.to_bytes(2) * 40
        made += [
            ipv4(tcp(data, flags="A", **v4, **ends), proto=6, ip_id=port, **v4),
            ipv4(udp(data, **v4, **ends), proto=17, ip_id=port + 2000, **v4),
            ipv6(tcp(data, flags="A", **v6, **ends), proto=6, **v6),
            ipv6(udp(data, **v6, **ends), proto=17, **v6),
        ]
    return made


@pytest.mark.parametrize("decapsulate", [False, True])
def test_the_owner_alone_sends_a_packet_on(decapsulate: bool) -> None:
    whole = packets()
    frames = list(itertools.chain.from_iterable(cut(packet, 32) for packet in whole))
    seen: list[list[int]] = [[] for _ in range(WORKERS)]
    sent: list[list[bytes]] = []
    counters: list[dict[str, int]] = []

    async def work(number: int) -> None:
        app: App[None] = App("orphans")

        @app.on(ORPHAN)
        def note(pkt: Packet) -> None:
            seen[number].append(pkt.sport)

        wire = Recorder()
        settings = Settings(on_error="raise", decapsulate=decapsulate)
        async with Runtime(transport=wire, settings=settings, shard=(number, WORKERS)) as runtime:
            await runtime.attach(app)
            for packet_frames in (frames[at : at + 40] for at in range(0, len(frames), 40)):
                feed_frames(runtime.engine, [(START_NS, frame, 1, len(frame)) for frame in packet_frames])
                runtime.engine.flush(wire)
            counters.append(runtime.statistics())
        sent.append(wire.sent)

    async def main() -> None:
        for number in range(WORKERS):
            await work(number)

    in_loop(main(), "asyncio")
    owners = [shard_of(ethernet(packet), WORKERS) for packet in whole]
    assert len(set(owners)) == WORKERS
    for number in range(WORKERS):
        mine = [packet for packet, owner in zip(whole, owners, strict=True) if owner == number]
        assert sent[number] == list(itertools.chain.from_iterable(cut(packet, 32) for packet in mine))
        assert seen[number] == [
            int.from_bytes(packet[at : at + 2])
            for packet in mine
            if packet[6 if packet[0] >> 4 == 6 else 9] == 6
            for at in [40 if packet[0] >> 4 == 6 else 20]
        ]
    assert sum(each["frames"] for each in counters) == len(frames)
    assert sum(each["in_line.forwarded"] for each in counters) == len(frames)
    assert [each["tcp"] for each in counters] == [len(ports) for ports in seen]
