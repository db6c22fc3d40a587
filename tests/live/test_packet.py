"""Watching real interfaces: every frame comes with its bytes, or is counted as the kernel counts it."""

import fcntl
import os
import random
import resource
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from structlog.testing import capture_logs

from aiomos.errors import TransportError
from aiomos.testing.packets import ethernet, ip, tcp_frame, udp_frame, vlan
from aiomos.transport.bpf import Instruction, Program
from aiomos.transport.packet import PacketWatch
from aiomos.transport.packet_sockets import Fanout, open_packet_socket
from tests.live.conftest import Ends
from tests.live.network import COMMAND_SECONDS, Host, Network
from tests.live.programs import exchange, in_background, until

ETHERNET, RAW = 1, 101
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PAGE = resource.getpagesize()
SMALL: dict[str, Any] = {"block_size": PAGE, "blocks": 4, "retire_ms": 1}
"""A ring that a test can fill."""
FULL = 200
"""More frames than that ring holds."""


class Wire(NamedTuple):
    """A host with nothing of its own on the wire, and sockets that put frames on it, by interface."""

    host: Host
    senders: dict[str, socket.socket]

    def send(self, frames: Iterable[bytes], interface: str = "eth0") -> None:
        sender = self.senders[interface]
        for frame in frames:
            sender.send(frame)


@pytest.fixture
def wire(network: Network) -> Wire:
    far, host = network.host("far"), network.host("near")
    for name in ("eth0", "eth1"):
        network.join(far, name, host, name)
    return Wire(host, {name: far.raw(name) for name in ("eth0", "eth1")})


@contextmanager
def watching(host: Host, *interfaces: str, **options: Any) -> Iterator[PacketWatch]:
    with host.inside():
        watch = PacketWatch(interfaces or ["eth0"], **options)
    with watch:
        yield watch


class Seen(NamedTuple):
    time_ns: int
    data: bytes
    linktype: int
    wirelen: int
    interface: int


def wait(watch: PacketWatch, seconds: float) -> bool:
    return bool(select.select([watch.fileno()], [], [], seconds)[0])


def read(watch: PacketWatch, count: int) -> list[Seen]:
    """Read until there are so many frames."""
    seen: list[Seen] = []
    deadline = time.monotonic() + COMMAND_SECONDS
    while len(seen) < count:
        assert time.monotonic() < deadline, f"{len(seen)} of {count} frames"
        wait(watch, 1)
        if watch.read_batch():
            seen += map(Seen._make, watch.batch())
    assert len(seen) == count
    return seen


def data(seen: Iterable[Seen]) -> list[bytes]:
    return [frame.data for frame in seen]


def numbered(numbers: Iterable[int], size: int = 100) -> list[bytes]:
    return [ethernet(number.to_bytes(size), ethertype=0x88B5) for number in numbers]


# --- frames -------------------------------------------------------------------------------------------


def test_every_frame_comes_in_order_with_its_bytes_length_and_time(wire: Wire) -> None:
    rng = random.Random(4)
    sent = [ethernet(rng.randbytes(rng.randrange(1, 1500)), ethertype=0x88B5) for _ in range(20_000)]
    with watching(wire.host) as watch:
        start = time.time_ns()
        wire.send(sent)
        seen = read(watch, len(sent))
        end = time.time_ns()
        counted = watch.statistics()
    assert data(seen) == sent
    assert [frame.wirelen for frame in seen] == [len(frame) for frame in sent]
    times = [frame.time_ns for frame in seen]
    assert [start, *times, end] == sorted([start, *times, end])
    assert {frame.linktype for frame in seen} == {ETHERNET}
    assert counted["received"] == len(sent)
    assert counted["bytes"] == sum(map(len, sent))
    assert counted["dropped"] == counted["truncated"] == counted["damaged"] == 0


@pytest.mark.parametrize("tagged", [1, 2, 3])
@pytest.mark.parametrize("ethertype", [0x8100, 0x88A8])
def test_vlan_tags_are_where_they_were(wire: Wire, ethertype: int, tagged: int) -> None:
    """The kernel takes the outermost tag out, and says so beside the frame."""
    sent = []
    for number in range(50):
        frame = tcp_frame("10.0.0.1", "10.0.0.2", sport=number + 1, dport=80, payload=bytes(number))
        for tag in range(tagged):
            frame = vlan(frame, 4094 - number - tag, ethertype=ethertype, priority=number % 8)
        sent += [frame, tcp_frame("10.0.0.1", "10.0.0.2", sport=1, dport=2)]
    with watching(wire.host) as watch:
        wire.send(sent)
        seen = read(watch, len(sent))
    assert data(seen) == sent
    assert [frame.wirelen for frame in seen] == [len(frame) for frame in sent]


def test_frames_both_ways_are_seen_at_a_hosts_own_interface(pair: Ends) -> None:
    client, server = (host.open_socket(kind=socket.SOCK_DGRAM) for host in pair)
    server.bind((pair.server.address, 7))
    with watching(pair.server, prefilter=only(0x0800)) as watch:
        client.sendto(b"ping", server.getsockname())
        data_received, peer = server.recvfrom(100)
        assert data_received == b"ping"
        server.sendto(b"pong", peer)
        assert [frame[-4:] for frame in data(read(watch, 2))] == [b"ping", b"pong"]


def test_a_frame_on_lo_is_seen_once(network: Network) -> None:
    host = network.host("alone")
    sent = numbered(range(100))
    with watching(host, "lo") as watch:
        sender = host.raw("lo")
        for frame in sent:
            sender.send(frame)
        assert data(read(watch, len(sent))) == sent
        watch.set_prefilter(keep(40))
        sender.send(sent[7])
        assert data(read(watch, 1)) == [sent[7][:40]]
        assert watch.statistics()["received"] == 101


def test_super_segments_come_whole(pair: Ends) -> None:
    """What segmentation offload would have cut is one frame, longer than any MTU."""
    payload = random.Random(1).randbytes(3_000_000)
    listener = pair.server.listen(80)
    with watching(pair.server) as watch:
        accepted: list[bytes] = []
        reader = in_background(lambda: accepted.append(exchange(listener.accept()[0], b"")))
        exchange(pair.client.connect(pair.server.address, 80), payload)
        reader.join()
        assert accepted == [payload]
        wait(watch, 1)
        seen: list[Seen] = []
        while watch.read_batch():
            seen += map(Seen._make, watch.batch())
        assert watch.statistics()["truncated"] == 0
    assert max(frame.wirelen for frame in seen) > 9000
    assert all(frame.wirelen == len(frame.data) for frame in seen)


def test_raw_ip_interfaces_give_packets_without_link_layer(network: Network) -> None:
    host = network.host("tunnel")
    with host.inside():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    host.on_close(lambda: os.close(tun))
    host.set_link("tun0", state="up")
    packet = ip(bytes(50), src="10.0.0.1", dst="10.0.0.2", proto=253)
    with watching(host, "tun0") as watch:
        assert watch.interfaces[0].linktype == RAW
        os.write(tun, packet)
        (seen,) = read(watch, 1)
        assert (seen.data, seen.linktype) == (packet, RAW)
        watch.send(packet)
        assert os.read(tun, 2000) == packet
        assert watch.statistics()["sent"] == 1


# --- several interfaces -------------------------------------------------------------------------------


def test_a_busy_interface_leaves_the_other_its_turn(wire: Wire) -> None:
    interfaces = ["eth0", "eth1"]
    with wire.host.inside(), open_packet_socket("eth0") as busy, open_packet_socket("eth1") as other:
        wire.send(numbered(range(5000), size=1000))
        wire.send(numbered(range(50)), "eth1")
        for sock in (busy, other):
            assert select.select([sock], [], [], COMMAND_SECONDS)[0]
        with PacketWatch(interfaces, sockets=[busy, other]) as watch:
            assert watch.read_batch()
            first = [Seen._make(frame) for frame in watch.batch()]
            rest = read(watch, 5050 - len(first))
            counted = watch.statistics()
    assert {frame.interface for frame in first} == {0, 1}
    for interface, count in enumerate((5000, 50)):
        came = data(frame for frame in first + rest if frame.interface == interface)
        assert [int.from_bytes(frame[14:]) for frame in came] == list(range(count))
        assert counted[f"{interfaces[interface]}.received"] == count
    assert counted["received"] == 5050


# --- overflow -----------------------------------------------------------------------------------------


def test_what_the_ring_cannot_hold_is_counted_as_dropped(wire: Wire) -> None:
    with watching(wire.host, **SMALL) as watch:
        wire.send(numbered(range(FULL)))
        first = watch.statistics()
        assert first["received"] + first["dropped"] == FULL
        assert first["dropped"] > 0
        assert first["freezes"] == 1
        assert data(read(watch, first["received"])) == numbered(range(first["received"]))
        assert not watch.read_batch()
        wire.send(numbered(range(10)))
        assert data(read(watch, 10)) == numbered(range(10))
        second = watch.statistics()
    assert second["dropped"] == first["dropped"]
    assert second["received"] == first["received"] + 10


def test_statistics_can_be_asked_for_when_closed(wire: Wire) -> None:
    with watching(wire.host) as watch:
        wire.send(numbered(range(10)))
        read(watch, 10)
    assert watch.statistics()["received"] == 10
    assert watch.ended
    assert not watch.read_batch()
    watch.close()


def test_frames_longer_than_a_block_are_cut_and_counted(wire: Wire) -> None:
    for sender, host in (("eth0", wire.host),):
        host.set_link(sender, mtu=9000)
    long = ethernet(bytes(1400), ethertype=0x88B5)
    with watching(wire.host, prefilter=keep(100)) as watch:
        wire.send([long])
        (seen,) = read(watch, 1)
        assert watch.statistics()["truncated"] == 1
    assert (seen.data, seen.wirelen) == (long[:100], len(long))


# --- one worker after the other -----------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [0, 1, 40, FULL])
@pytest.mark.parametrize("blocks_before", range(5))
def test_a_new_watcher_goes_on_where_the_last_one_ended(wire: Wire, blocks_before: int, waiting: int) -> None:
    """Wherever in the ring that was, also if the ring overflowed meanwhile."""
    with wire.host.inside(), open_packet_socket("eth0", **SMALL) as sock:
        with PacketWatch(["eth0"], sockets=[sock], **SMALL) as watch:
            for _ in range(blocks_before):
                wire.send(numbered([0]))
                read(watch, 1)
        wire.send(numbered(range(waiting)))
        with PacketWatch(["eth0"], sockets=[sock], **SMALL) as watch:
            counted = watch.statistics()
            assert counted["received"] + counted["dropped"] == waiting
            assert (waiting == FULL) == (counted["dropped"] > 0)
            assert data(read(watch, counted["received"])) == numbered(range(counted["received"]))
            assert not watch.read_batch()
            wire.send(numbered(range(3)))
            assert data(read(watch, 3)) == numbered(range(3))


def test_a_watcher_finds_its_place_in_a_ring_that_was_emptied_while_full(wire: Wire) -> None:
    """The kernel then has no block open: it opens the one behind the newest when the next frame comes."""
    ring = {**SMALL, "retire_ms": 60_000}
    with wire.host.inside(), open_packet_socket("eth0", **ring) as sock:
        with PacketWatch(["eth0"], sockets=[sock], **ring) as watch:
            wire.send(numbered(range(FULL)))
            counted = watch.statistics()
            assert counted["freezes"] == 1
            read(watch, counted["received"])
        with PacketWatch(["eth0"], sockets=[sock], **ring) as watch:
            wire.send(numbered(range(40)))
            assert watch.statistics()["received"] == 40
            assert wait(watch, COMMAND_SECONDS)
            assert watch.read_batch()
            assert watch.batch()[0][1] == numbered([0])[0]


def test_frames_of_an_unfinished_batch_come_again_to_another_process(wire: Wire) -> None:
    """A worker that died has held its blocks; tags it had put back are not put back twice."""
    sent = [vlan(frame, 7) for frame in numbered(range(20))]
    with wire.host.inside(), open_packet_socket("eth0") as sock:
        wire.send(sent)
        assert in_child(lambda: data(read(PacketWatch(["eth0"], sockets=[sock]), 20)) == sent)
        with PacketWatch(["eth0"], sockets=[sock]) as watch:
            assert data(read(watch, 20)) == sent


def in_child(check: Callable[[], bool]) -> bool:
    """Make a check in a process that then ends at once."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def test_sockets_that_were_handed_in_stay_open(wire: Wire) -> None:
    with wire.host.inside(), open_packet_socket("eth0") as sock:
        PacketWatch(["eth0"], sockets=[sock]).close()
        assert sock.fileno() >= 0


def test_a_ring_of_other_sizes_is_refused(wire: Wire) -> None:
    with (
        wire.host.inside(),
        open_packet_socket("eth0", **SMALL) as sock,
        pytest.raises(TransportError, match="4096"),
    ):
        PacketWatch(["eth0"], sockets=[sock], block_size=PAGE, blocks=5)


# --- interfaces that go down, or away -----------------------------------------------------------------


def test_it_goes_on_when_the_interface_is_up_again(wire: Wire) -> None:
    with watching(wire.host) as watch:
        wire.send(numbered([1]))
        read(watch, 1)
        with capture_logs() as log:
            for outage in (1, 2):
                wire.host.set_link("eth0", state="down")
                settle(watch)
                assert watch.statistics()["outages"] == outage
                assert not wait(watch, 0)
                wire.host.set_link("eth0", state="up")
                let_through(wire, watch, numbered([outage])[0])
        assert not watch.ended
    assert [(entry["event"], entry["interface"]) for entry in log] == [("interface_down", "eth0")] * 2


def settle(watch: PacketWatch) -> None:
    """Let it notice what happened to its interfaces."""
    while wait(watch, 0):
        assert not watch.read_batch()


def let_through(wire: Wire, watch: PacketWatch, frame: bytes) -> None:
    """Send a frame until it arrives: both ends of a wire take a moment to notice that it works again."""

    def arrives() -> bool:
        with suppress(OSError):
            wire.send([frame])
        return wait(watch, 0.02) and frame in drained(watch)

    until("a frame comes through", arrives)


def test_an_interface_may_be_down_at_first(wire: Wire) -> None:
    wire.host.set_link("eth0", state="down")
    with watching(wire.host) as watch:
        settle(watch)
        wire.host.set_link("eth0", state="up")
        let_through(wire, watch, numbered([1])[0])


def test_it_ends_only_when_all_interfaces_are_removed(wire: Wire) -> None:
    with watching(wire.host, "eth0", "eth1") as watch, capture_logs() as log:
        remove(wire.host, "eth0")
        settle(watch)
        wire.send(numbered([1]), "eth1")
        assert read(watch, 1)[0].interface == 1
        remove(wire.host, "eth1")
        with pytest.raises(TransportError, match="eth0, eth1"):
            settle(watch)
        assert watch.ended
        assert not watch.read_batch()
        watch.send(numbered([1])[0])
        assert watch.statistics()["unsent"] == 1
    removed = [entry["interface"] for entry in log if entry["event"] == "interface_removed"]
    assert removed == ["eth0", "eth1"]


def test_removal_of_an_interface_that_was_down_is_noticed(wire: Wire) -> None:
    with watching(wire.host) as watch:
        wire.host.set_link("eth0", state="down")
        settle(watch)
        remove(wire.host, "eth0")
        with pytest.raises(TransportError):
            settle(watch)


@pytest.mark.parametrize("count", [5, FULL])
@pytest.mark.parametrize("retire_ms", [1, 200])
def test_what_came_before_a_removal_is_read(wire: Wire, retire_ms: int, count: int) -> None:
    """The kernel hands over its last block a while later; where the ring was full there is none to come."""
    with watching(wire.host, **SMALL | {"retire_ms": retire_ms}) as watch:
        wire.send(numbered(range(count)))
        remove(wire.host, "eth0")
        seen: list[Seen] = []
        with pytest.raises(TransportError):
            while wait(watch, COMMAND_SECONDS):
                if watch.read_batch():
                    seen += map(Seen._make, watch.batch())
        received = watch.statistics()["received"]
    assert data(seen) == numbered(range(received))
    assert received == count if count < FULL else 0 < received < count


def remove(host: Host, interface: str) -> None:
    with host.netlink() as netlink:
        netlink.link("del", index=host.index(interface))


# --- filters and groups -------------------------------------------------------------------------------


def keep(size: int) -> Program:
    """A filter that keeps so many bytes of each frame."""
    return (Instruction(0x06, 0, 0, size),)


def only(ethertype: int) -> Program:
    """A filter that keeps the frames of one kind."""
    return (
        Instruction(0x28, 0, 0, 12),  # ldh [12]
        Instruction(0x15, 0, 1, ethertype),  # jne, over the next
        *keep(1 << 16),
        *keep(0),
    )


def test_the_prefilter_can_be_replaced(wire: Wire) -> None:
    arp, other = ethernet(bytes(28), ethertype=0x0806), numbered([1])[0]
    with watching(wire.host, prefilter=only(0x0806)) as watch:
        wire.send([other, arp])
        assert data(read(watch, 1)) == [arp]
        watch.set_prefilter(keep(0))
        wire.send([other, arp])
        watch.set_prefilter(None)
        wire.send([other, arp])
        assert data(read(watch, 2)) == [other, arp]
        with pytest.raises(TransportError, match="eth0"):
            watch.set_prefilter((Instruction(0xFFFF, 0, 0, 0),))


def flows(count: int) -> list[bytes]:
    """Frames of many flows, both ways."""
    return [
        frame
        for port in range(1024, 1024 + count)
        for frame in (
            udp_frame("10.0.0.1", "10.0.0.2", sport=port, dport=53),
            udp_frame("10.0.0.2", "10.0.0.1", sport=53, dport=port),
        )
    ]


def test_a_group_shares_frames_by_the_hash_of_the_flow(wire: Wire) -> None:
    sent = flows(100)
    options: dict[str, Any] = {"fanout": Fanout(group=1)}
    with watching(wire.host, **options) as first, watching(wire.host, **options) as second:
        wire.send(sent)
        shares: list[list[bytes]] = [[], []]

        def gather() -> bool:
            for share, watch in zip(shares, (first, second), strict=True):
                share += drained(watch)
            return sum(map(len, shares)) == len(sent)

        until("all frames are there", gather)
    assert sorted(shares[0] + shares[1]) == sorted(sent)
    assert all(shares)
    for share in shares:
        ports = [sum(struct.unpack("!HH", frame[34:38])) for frame in share]
        assert ports[::2] == ports[1::2]


def test_a_program_can_say_who_in_a_group_gets_a_frame(wire: Wire) -> None:
    sent = flows(50)
    options: dict[str, Any] = {"fanout": Fanout(group=1, program=keep(1), defragment=True)}
    with (
        watching(wire.host, "eth0", "eth1", **options) as first,
        watching(wire.host, "eth0", "eth1", **options) as second,
    ):
        wire.send(sent)
        wire.send(sent, "eth1")
        assert sorted(data(read(second, 2 * len(sent)))) == sorted(sent + sent)
        assert first.statistics()["received"] == 0


def test_a_group_is_of_one_way_of_sharing(wire: Wire) -> None:
    with (
        watching(wire.host, fanout=Fanout(group=1)),
        pytest.raises(TransportError, match="group 1"),
        watching(wire.host, fanout=Fanout(group=1, program=keep(1))),
    ):
        pass


def drained(watch: PacketWatch) -> list[bytes]:
    frames: list[bytes] = []
    while watch.read_batch():
        frames += [frame[1] for frame in watch.batch()]
    return frames


# --- sending ------------------------------------------------------------------------------------------


def test_frames_sent_reach_the_other_end_and_are_not_seen_here(wire: Wire) -> None:
    frame, other = numbered([1, 2])
    with watching(wire.host, "eth0", "eth1") as watch:
        watch.send(frame, 1)
        assert wire.senders["eth1"].recv(2000) == frame
        wire.send([other], "eth1")
        assert data(read(watch, 1)) == [other]
        watch.send(bytes(5000))
        counted = watch.statistics()
        assert (counted["eth1.sent"], counted["unsent"], counted["eth0.unsent"]) == (1, 1, 1)
        with pytest.raises(ValueError, match="interface 2"):
            watch.send(frame, 2)


# --- what cannot be watched ---------------------------------------------------------------------------


def test_an_unknown_interface_is_named_with_those_there_are(wire: Wire) -> None:
    with pytest.raises(TransportError, match=r"eth7: .* eth0"), watching(wire.host, "eth0", "eth7"):
        pass


def test_a_user_without_the_capability_is_told_what_to_do(wire: Wire) -> None:
    def check() -> bool:
        os.setresuid(65534, 65534, 65534)
        try:
            PacketWatch(["eth0"])
        except TransportError as error:
            return "setcap cap_net_raw" in str(error) and isinstance(error.__cause__, PermissionError)
        return False

    if "4294967295" not in Path("/proc/self/uid_map").read_text():
        pytest.skip("needs another user; there is none in a user namespace of one")
    with wire.host.inside():
        assert in_child(check)


@pytest.mark.parametrize(
    "sizes",
    [
        {"block_size": PAGE + 1},
        {"block_size": 0},
        {"block_size": 2 << 30},
        {"blocks": 1},
        {"retire_ms": 0},
        {"retire_ms": 1 << 16},
    ],
    ids=str,
)
def test_sizes_are_checked(wire: Wire, sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(sizes))), watching(wire.host, **sizes):
        pass


def test_a_ring_too_large_for_the_kernel_is_refused(wire: Wire) -> None:
    with pytest.raises(TransportError, match="lower blocks"), watching(wire.host, blocks=1 << 20):
        pass


@pytest.mark.parametrize("interfaces", [[], "eth0"], ids=repr)
def test_interfaces_are_a_sequence_of_names(interfaces: list[str]) -> None:
    with pytest.raises(ValueError, match="interfaces"):
        PacketWatch(interfaces)


def test_each_interface_has_its_socket() -> None:
    with pytest.raises(ValueError, match="1 interfaces"):
        PacketWatch(["eth0"], sockets=[])
