"""The prefilter leaves out what no filter can need, and keeps what it cannot tell."""

import pytest

from aiomos.runtime.prefilter import prefilter
from aiomos.testing.packets import ethernet, ip, tcp_frame, udp_frame, vlan
from aiomos.transport.bpf import MAX_INSTRUCTIONS, Program
from aiomos.ude.filters import Filter
from tests.models.bpf import Buffer, received_by_socket, run


def made(*texts: str) -> Program:
    program = prefilter(Filter(text) for text in texts)
    assert program is not None
    return program


def keeps(program: Program, frame: bytes) -> bool:
    return run(program, received_by_socket(frame)) > 0


@pytest.mark.parametrize(
    "texts",
    [
        (),
        ("",),
        ("port 80", ""),
        ("vlan 7",),
        ("not vlan",),
        ("ip or ip6",),
        ("ip", "ip6"),
        ("vlan 7 or port 80",),
    ],
)
def test_where_nothing_can_be_left_out_there_is_none(texts: tuple[str, ...]) -> None:
    assert prefilter(Filter(text) for text in texts) is None


def test_frames_are_kept_either_way() -> None:
    program = made("server port 80 and client net 10.0.0.0/8")
    assert keeps(program, tcp_frame("10.1.2.3", "192.0.2.1", 5000, 80))
    assert keeps(program, tcp_frame("192.0.2.1", "10.1.2.3", 80, 5000))
    assert not keeps(program, tcp_frame("192.0.2.1", "10.1.2.3", 5000, 80))
    assert not keeps(program, tcp_frame("10.1.2.3", "192.0.2.1", 80, 5000))


def test_frames_for_any_of_several_filters_are_kept() -> None:
    program = made("port 80", "udp port 53", "host 2001:db8::5")
    assert keeps(program, tcp_frame(sport=80, dport=4))
    assert keeps(program, udp_frame(sport=53, dport=4))
    assert not keeps(program, tcp_frame(sport=53, dport=4))
    assert keeps(program, tcp_frame("2001:db8::5", "2001:db8::6", 1, 2))
    assert not keeps(program, tcp_frame("2001:db8::7", "2001:db8::6", 1, 2))


def test_what_is_said_of_vlans_is_unknown() -> None:
    program = made("port 80 and not vlan 7")
    for frame in (tcp_frame(dport=80), tcp_frame(dport=80, vlan=7)):
        assert keeps(program, frame)
    assert not keeps(program, tcp_frame(dport=81, vlan=6))
    assert keeps(program, vlan(tcp_frame(dport=81, vlan=6), 5))


@pytest.mark.parametrize(
    "frame",
    [
        ethernet(bytes(46), ethertype=0x0806),
        ethernet(bytes(46), ethertype=0x8847),
        ethernet(bytes(46), ethertype=0x8864),
        ethernet(ip(bytes(8), src="10.0.0.1", dst="10.0.0.2", proto=1)),
        ethernet(ip(bytes(8), src="::1", dst="::2", proto=58)),
        ethernet(ip(bytes(8), src="10.0.0.1", dst="10.0.0.2", proto=47)),
    ],
)
def test_what_it_does_not_understand_is_kept(frame: bytes) -> None:
    assert keeps(made("port 80"), frame)


def test_links_without_a_header_are_read_and_unknown_ones_kept() -> None:
    program = made("port 80")
    packets = [tcp_frame(dport=port)[14:] for port in (80, 81)]
    for bare, kept in ((0xFFFE, [True, False]), (519, [True, False]), (801, [True, True])):
        assert [run(program, Buffer(data, 0x0800, hardware_type=bare)) > 0 for data in packets] == kept


def test_a_filter_too_long_for_the_kernel_makes_none() -> None:
    ports = [f"port {number}" for number in range(1, MAX_INSTRUCTIONS)]
    few = made(" or ".join(ports[:300]))
    assert keeps(few, tcp_frame(dport=300))
    assert not keeps(few, tcp_frame(dport=301, sport=301))
    assert prefilter([Filter(" or ".join(ports))]) is None
