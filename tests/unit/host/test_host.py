"""What addresses of ours answer, what is asked in their name, and what neighbours are believed."""

import struct
from ipaddress import IPv4Address

import dpkt
import pytest

from aiomos.testing.packets import checksum, ethernet, ipv4, ipv6, mac_bytes, udp, vlan, with_checksum

probe = pytest.importorskip("tests.native._probe_host", reason="needs the native test probes")
messages = pytest.importorskip("tests.native._probe_messages", reason="needs the native test probes")

OURS, THEIRS, LINK = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:aa"
NOBODY, EVERYBODY = "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"
US, THEM, ELSE = "192.0.2.1", "192.0.2.2", "192.0.2.3"
US6, THEM6, ELSE6 = "2001:db8::1", "2001:db8::2", "2001:db8::3"
SECOND = 10**9
REQUEST, REPLY = 1, 2
SOLICITATION, ADVERTISEMENT = 135, 136


@pytest.fixture
def machine() -> "probe.Machine":
    machine = probe.Machine()
    machine.host.add_address(0, US, OURS, 24, True)
    machine.host.add_address(0, US6, OURS, 64, True)
    return machine


def arp(
    op: int, sender: str, target: str, *, mac: str = THEIRS, to: str = EVERYBODY, tha: str = NOBODY
) -> bytes:
    written = messages.write_arp(op, mac_bytes(mac), sender, mac_bytes(tha), target, mac_bytes(to))
    return bytes(written)


def ndp(kind: int, src: str, dst: str, target: str, *, flags: int = 0, tells: bool = True) -> bytes:
    to = mac_bytes(OURS)
    return bytes(
        messages.write_ndp(kind, src, dst, target, mac_bytes(THEIRS), to, flags=flags, tells_mac=tells)
    )


def icmp(kind: int, code: int, about: bytes, *, src: str = THEM, dst: str = US) -> bytes:
    body = struct.pack("!BBHI", kind, code, 0, 0) + about
    if ":" in src:
        packet = ipv6(with_checksum(body, 2, src, dst, 58), src=src, dst=dst, proto=58)
    else:
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        packet = ipv4(body, src=src, dst=dst, proto=1, dont_fragment=True)
    return ethernet(packet, src=THEIRS, dst=OURS)


# --- ARP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asker", [THEM, "0.0.0.0"])
def test_who_asks_for_us_is_answered(machine: "probe.Machine", asker: str) -> None:
    verdict, sent = machine.take(arp(REQUEST, asker, US))
    assert verdict == "done"
    ((interface, frame),) = sent
    assert interface == 0
    assert frame == arp(REPLY, US, asker, mac=OURS, to=THEIRS, tha=THEIRS)
    known = None if asker == "0.0.0.0" else ("stale", THEIRS)
    assert machine.host.neighbour(0, asker) == known


def test_others_are_not_answered_for(machine: "probe.Machine") -> None:
    assert machine.take(arp(REQUEST, THEM, ELSE)) == ("none", [])
    assert machine.take(arp(REQUEST, THEM, US), 1) == ("none", [])  # by another link
    assert machine.take(vlan(arp(REQUEST, THEM, US), 5)) == ("none", [])
    assert machine.take(arp(REQUEST, THEM, US), linktype=101) == ("none", [])
    assert machine.host.neighbour(0, THEM) is None


def test_an_address_is_answered_for_until_it_is_given_back(machine: "probe.Machine") -> None:
    machine.host.remove_address(0, US)
    assert machine.take(arp(REQUEST, THEM, US)) == ("none", [])


def test_on_a_bridge_all_is_heard(machine: "probe.Machine") -> None:
    machine.host.hear_all(True)
    assert machine.take(arp(REQUEST, THEM, ELSE)) == ("none", [])
    assert machine.host.neighbour(0, THEM) == ("stale", THEIRS)


def test_a_question_is_asked_in_the_name_of_an_own_address(machine: "probe.Machine") -> None:
    assert machine.find(0, THEM, US) == (None, [(0, arp(REQUEST, US, THEM, mac=OURS))])
    assert machine.take(arp(REPLY, THEM, US, to=OURS, tha=OURS)) == ("done", [])
    assert machine.find(0, THEM, US) == (THEIRS, [])
    assert machine.host.neighbour(0, THEM) == ("reachable", THEIRS)


def test_a_neighbour_is_probed_by_unicast(machine: "probe.Machine") -> None:
    machine.take(arp(REQUEST, THEM, US))
    assert machine.find(0, THEM, US) == (THEIRS, [])
    assert machine.pass_time(5 * SECOND) == [(0, arp(REQUEST, US, THEM, mac=OURS, to=THEIRS))]
    assert machine.take(arp(REPLY, THEM, US, to=OURS, tha=OURS)) == ("done", [])
    assert machine.host.neighbour(0, THEM) == ("reachable", THEIRS)


@pytest.mark.parametrize(("address", "mac"), [(US, OURS), (None, LINK)])
def test_nobody_asks_and_is_answered(address: str | None, mac: str) -> None:
    """By the MAC address of an own address, or of the link."""
    machine = probe.Machine()
    if address is not None:
        machine.host.add_address(0, address, OURS)
    assert machine.find(0, THEM) == (None, [(0, arp(REQUEST, "0.0.0.0", THEM, mac=mac))])
    assert machine.take(arp(REPLY, THEM, "0.0.0.0", to=mac, tha=mac)) == ("done", [])
    assert machine.find(0, THEM) == (THEIRS, [])


def test_without_any_address_nothing_is_asked() -> None:
    machine = probe.Machine()
    assert machine.find(1, THEM) == (None, [])
    assert machine.find(0, THEM6) == (None, [])


def test_a_broadcast_reply_proves_nothing(machine: "probe.Machine") -> None:
    machine.find(0, THEM, US)
    machine.take(arp(REPLY, THEM, US))
    assert machine.host.neighbour(0, THEM) == ("stale", THEIRS)


def test_an_answer_nobody_asked_for_makes_no_entry(machine: "probe.Machine") -> None:
    machine.take(arp(REPLY, THEM, ELSE, to=OURS))
    assert machine.take(arp(REPLY, THEM, "0.0.0.0", to=OURS)) == ("none", [])
    assert machine.host.neighbour(0, THEM) is None


def test_who_claims_our_address_is_not_believed(machine: "probe.Machine") -> None:
    for claim in (arp(REQUEST, US, US), arp(REPLY, US, THEM), arp(REQUEST, US, THEM)):
        assert machine.take(claim)[1] == []
    machine.take(ndp(ADVERTISEMENT, US6, "ff02::1", US6, flags=0x20))
    assert machine.host.neighbour(0, US) is None
    assert machine.host.neighbour(0, US6) is None
    assert machine.host.statistics()["reply_conflicts"] == 4


def test_an_address_is_announced(machine: "probe.Machine") -> None:
    assert machine.announce(0, US) == [(0, arp(REQUEST, US, US, mac=OURS))]
    ((_, frame),) = machine.announce(0, US6)
    told = messages.read_ndp(frame)
    assert (told["dst"], told["target"], told["flags"], told["mac"]) == ("ff02::1", US6, 0x20, OURS)
    assert frame[:6] == mac_bytes("33:33:00:00:00:01")
    with pytest.raises(ValueError, match="not answered for"):
        machine.announce(1, US)


# --- neighbour discovery ----------------------------------------------------------------------------------


def test_who_solicits_us_is_told(machine: "probe.Machine") -> None:
    group, _ = messages.group_of(US6)
    verdict, ((interface, frame),) = machine.take(ndp(SOLICITATION, THEM6, group, US6))
    assert (verdict, interface, frame[:12]) == ("done", 0, mac_bytes(THEIRS) + mac_bytes(OURS))
    told = messages.read_ndp(frame)
    assert (told["src"], told["dst"], told["target"]) == (US6, THEM6, US6)
    assert (told["flags"], told["mac"]) == (0x60, OURS)
    assert machine.host.neighbour(0, THEM6) == ("stale", THEIRS)


def test_who_tries_our_address_is_told_with_all_others(machine: "probe.Machine") -> None:
    """RFC 4862 section 5.4.3."""
    group, _ = messages.group_of(US6)
    _, ((_, frame),) = machine.take(ndp(SOLICITATION, "::", group, US6, tells=False))
    told = messages.read_ndp(frame)
    assert (told["dst"], told["flags"]) == ("ff02::1", 0x20)
    assert machine.host.neighbour(0, "::") is None


def test_others_are_not_advertised(machine: "probe.Machine") -> None:
    group, _ = messages.group_of(ELSE6)
    assert machine.take(ndp(SOLICITATION, THEM6, group, ELSE6)) == ("none", [])
    assert machine.host.neighbour(0, THEM6) is None


def test_a_neighbour_is_solicited_and_believed(machine: "probe.Machine") -> None:
    group, mac = messages.group_of(THEM6)
    _, ((_, question),) = machine.find(0, THEM6)
    asked = messages.read_ndp(question)
    assert question[:6] == mac_bytes(mac)
    assert (asked["src"], asked["dst"], asked["target"], asked["mac"]) == (US6, group, THEM6, OURS)
    assert machine.take(ndp(ADVERTISEMENT, THEM6, US6, THEM6, flags=0x60)) == ("done", [])
    assert machine.find(0, THEM6) == (THEIRS, [])
    assert machine.host.neighbour(0, THEM6) == ("reachable", THEIRS)
    machine.pass_time(60 * SECOND)
    machine.find(0, THEM6, US6, 60 * SECOND)
    ((_, question),) = machine.pass_time(65 * SECOND)
    assert question[:6] == mac_bytes(THEIRS)
    assert messages.read_ndp(question)["dst"] == THEM6


def test_an_advertisement_to_all_passes_on(machine: "probe.Machine") -> None:
    machine.take(ndp(SOLICITATION, THEM6, messages.group_of(US6)[0], US6))
    assert machine.take(ndp(ADVERTISEMENT, THEM6, "ff02::1", THEM6, flags=0x20)) == ("none", [])


# --- frames that wait -------------------------------------------------------------------------------------


def test_what_waits_leaves_with_the_address_of_its_neighbour(machine: "probe.Machine") -> None:
    frame = ethernet(ipv4(udp(src=US, dst=THEM), src=US, dst=THEM, proto=17), src=OURS, dst=NOBODY)
    assert machine.send(0, THEM, frame) == [(0, arp(REQUEST, "0.0.0.0", THEM, mac=OURS))]
    _, sent = machine.take(arp(REQUEST, THEM, ELSE))  # it is heard of
    assert sent == [(0, mac_bytes(THEIRS) + frame[6:])]
    assert machine.host.neighbour(0, THEM) == ("delay", THEIRS)


def test_what_waits_leaves_as_it_is(machine: "probe.Machine") -> None:
    machine.send(0, THEM, bytes(60))
    verdict, sent = machine.take(arp(REPLY, THEM, "0.0.0.0", to=OURS))
    assert (verdict, sent) == ("done", [(0, mac_bytes(THEIRS) + bytes(54))])


def test_what_waits_in_vain_is_counted(machine: "probe.Machine") -> None:
    machine.send(0, THEM, bytes(60))
    for second in (1, 2, 3):
        machine.pass_time(second * SECOND)
    assert machine.host.statistics()["given_up"] == 1
    assert machine.host.statistics()["failed"] == 1


# --- ICMP -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("src", "dst", "kinds"), [(THEM, US, (8, 0)), (THEM6, US6, (128, 129))])
def test_an_echo_is_answered(machine: "probe.Machine", src: str, dst: str, kinds: tuple[int, int]) -> None:
    verdict, ((interface, frame),) = machine.take(icmp(kinds[0], 0, b"ping", src=src, dst=dst))
    assert (verdict, interface) == ("done", 0)
    expected = icmp(kinds[1], 0, b"ping", src=dst, dst=src)
    assert frame == mac_bytes(THEIRS) + mac_bytes(OURS) + expected[12:]


def test_what_is_not_a_host_answers_no_echo() -> None:
    machine = probe.Machine()
    machine.host.add_address(0, US, OURS)
    assert machine.take(icmp(8, 0, b"ping")) == ("none", [])
    assert machine.take(icmp(8, 0, b"ping", dst=ELSE)) == ("none", [])


def test_an_echo_longer_than_the_mtu_is_counted(machine: "probe.Machine") -> None:
    assert len(machine.take(icmp(8, 0, bytes(1472)))[1]) == 1
    assert machine.take(icmp(8, 0, bytes(1473))) == ("done", [])
    assert machine.host.statistics()["reply_too_long"] == 1


def test_errors_about_what_we_sent_are_handed_on(machine: "probe.Machine") -> None:
    about = ipv4(udp(src=US, dst=ELSE), src=US, dst=ELSE, proto=17)
    assert machine.take(icmp(3, 4, about)) == ("notice", [])
    assert machine.take(icmp(3, 4, about[:20])) == ("done", [])


def test_who_sends_to_a_port_of_nobody_is_told(machine: "probe.Machine") -> None:
    offender = ethernet(ipv4(udp(src=THEM, dst=US), src=THEM, dst=US, proto=17), src=THEIRS, dst=OURS)
    told, ((_, frame),) = machine.fail(offender)
    assert told
    error = dpkt.ethernet.Ethernet(frame).data
    assert (error.src, error.dst) == (IPv4Address(US).packed, IPv4Address(THEM).packed)
    assert (error.icmp.type, error.icmp.code) == (3, 3)
    assert sum(machine.fail(offender)[0] for _ in range(100)) == 49
    assert machine.fail(offender, now_ns=SECOND // 1000)[0]
    assert machine.host.statistics()["reply_limited"] == 51


# --- limits -----------------------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_through_and_then_so_many_a_second() -> None:
    at_once = probe.bucket(10, 3, [0] * 5)
    assert at_once == [True] * 3 + [False] * 2
    assert probe.bucket(10, 3, [0, 0, 0, SECOND // 10 - 1, SECOND // 10, SECOND // 10]) == [
        True, True, True, False, True, False,
    ]  # fmt: skip
    later = [10**18] * 4
    assert probe.bucket(10, 3, [0, *later]) == [True, True, True, True, False]


def test_answers_are_limited(machine: "probe.Machine") -> None:
    for _ in range(1000):
        assert len(machine.take(arp(REQUEST, THEM, US))[1]) == 1
    assert machine.take(arp(REQUEST, THEM, US)) == ("done", [])
    assert machine.host.statistics()["reply_answers"] == 1000


def test_addresses_are_checked(machine: "probe.Machine") -> None:
    with pytest.raises(ValueError, match="does not appear"):
        machine.host.add_address(0, "192.0.2", OURS)
    with pytest.raises(ValueError, match="link-layer address"):
        machine.host.add_address(0, US, "02:00")
