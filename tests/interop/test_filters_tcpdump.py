"""Filters pick the flows that tcpdump picks; each packet here is a flow of its own, client to server.

Of the names of services only those are used that are alike in every /etc/services.
"""

import shutil
import struct
import subprocess
from itertools import product
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiomos.testing.packets import ethernet, ip, tcp, udp
from aiomos.ude.filters import Filter

TCPDUMP = shutil.which("tcpdump")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(TCPDUMP is None, reason="tcpdump is not installed"),
]

IPV4 = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "192.0.2.7"]
IPV6 = ["2001:db8::1", "2001:db8::2", "2001:db8:1::1", "::ffff:10.0.0.1"]
PORTS = [22, 53, 80, 443]
PROTOCOLS: list[Literal["tcp", "udp"]] = ["tcp", "udp"]
FLOWS = [
    (proto, src, dst, sport, dport)
    for proto, family in product(PROTOCOLS, (IPV4, IPV6))
    for src, dst in product(family, family)
    for sport, dport in [(40000, port) for port in PORTS] + [(80, 443), (53, 53)]
]


def frame(number: int, proto: str, src: str, dst: str, sport: int, dport: int) -> bytes:
    """Build the packet of one flow, unlike that of any other."""
    build, protocol = (tcp, 6) if proto == "tcp" else (udp, 17)
    data = build(struct.pack("!I", number), src=src, dst=dst, sport=sport, dport=dport)
    return ethernet(ip(data, src=src, dst=dst, proto=protocol))


def capture() -> bytes:
    """Write a pcap file of all the packets; the time of each is its number."""
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = (
        struct.pack("<IIII", number, 0, len(data), len(data)) + data
        for number, data in ((number, frame(number, *flow)) for number, flow in enumerate(FLOWS))
    )
    return header + b"".join(records)


CAPTURE = capture()


def numbers(pcap: bytes) -> set[int]:
    found, at = set(), 24
    while at < len(pcap):
        number, _, length, _ = struct.unpack_from("<IIII", pcap, at)
        found.add(number)
        at += 16 + length
    return found


def picked_by_tcpdump(text: str) -> set[int]:
    """Run tcpdump without its optimizer, which refuses a filter that can never be true."""
    command = [str(TCPDUMP), "-n", "-O", "-r", "-", "-w", "-", text]
    done = subprocess.run(command, input=CAPTURE, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, f"tcpdump refuses {text!r}: {done.stderr.decode()}"
    return numbers(done.stdout)


def picked_by_aiomos(text: str) -> set[int]:
    made = Filter(text)
    return {
        number
        for number, (proto, src, dst, sport, dport) in enumerate(FLOWS)
        if made.matches((src, sport), (dst, dport), proto=proto)
    }


def agree(text: str) -> None:
    assert picked_by_aiomos(text) == picked_by_tcpdump(text), text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp or udp and port 53",
        "tcp or (udp and port 53)",
        "not tcp and port 53",
        "not (tcp and port 53)",
        "! tcp && port 53 || ip6",
        "not not tcp",
        "tcp port 80 or 443",
        "tcp dst port 22 or 80 and not 443",
        "not port 80 or 443",
        "not host 10.0.0.1 and 10.0.0.2",
        "host (10.0.0.1 or 10.0.0.2)",
        "host not 10.0.0.1 or 10.0.0.2",
        "port (80 or not 443)",
        "port (80 or (443 and 22))",
        "tcp port not 80",
        "port 80 or (443 and 22) or 53",
        "port 80 or (tcp port 443) or 22",
        "src or dst port 80",
        "src and dst port 53",
        "src and dst net 10",
        "dst or src host 10.0.0.1",
        "src 10.0.0.1",
        "src and dst 10.0.0.1",
        "net 10",
        "net 10.0",
        "net 10.0.0",
        "net 10.0.0.1",
        "net 10.0.0.0/30",
        "net 0.0.0.0/0",
        "net ::/0",
        "net 2001:db8::/48",
        "net 2001:db8::1",
        "net 10.0.0.0 mask 255.255.0.0",
        "net 192.0.2 mask 255.255.255",
        "host ::ffff:10.0.0.1",
        "net ::ffff:0:0/96",
        "portrange 50-100",
        "portrange 80",
        "src portrange 53-80 or 443-443",
        "port domain",
        "tcp port domain or http",
        "ip host 10.0.0.1",
        "ip6 net 2001:db8::/32",
        "ip and not net 10.0.0.0/8",
    ],
)
def test_agrees_with_tcpdump(text: str) -> None:
    agree(text)


VALUES = {
    "host": [*IPV4, *IPV6, "10.9.9.9"],
    "net": [
        "10",
        "10.0",
        "10.0.0.0/31",
        "192.0.2.0/24",
        "2001:db8::/47",
        "2001:db8::/32",
        "::/0",
        "0.0.0.0/0",
    ],
    "port": [*map(str, PORTS), "40000", "domain"],
    "portrange": ["22-80", "53-53", "0-65535"],
}
DIRECTIONS = ["", "src ", "dst ", "src or dst ", "src and dst "]


@st.composite
def terms(draw: st.DrawFn, depth: int = 3) -> str:
    """Draw filters in tcpdump's language, bare values and groups of them included."""
    text, kind = "", ""
    for number in range(draw(st.integers(1, 4))):
        text += draw(st.sampled_from([" and ", " or ", "&&", " || "])) if number else ""
        text += draw(st.sampled_from(["", "", "", "not ", "!", "not !"]))
        form = draw(st.sampled_from(["values", "values", "bare", "protocol", "group"]))
        if form == "bare" and kind:
            text += draw(values(kind))
        elif form == "protocol":
            text, kind = text + draw(st.sampled_from(["tcp", "udp", "ip", "ip6"])), ""
        elif form == "group" and depth:
            text += f"({draw(terms(depth - 1))})"
        else:
            kind = draw(st.sampled_from(sorted(VALUES)))
            protocol = draw(st.sampled_from(["", "tcp ", "udp "])) if kind.startswith("port") else ""
            text += f"{protocol}{draw(st.sampled_from(DIRECTIONS))}{kind} {draw(values(kind))}"
    return text


@st.composite
def values(draw: st.DrawFn, kind: str) -> str:
    some = draw(st.lists(st.sampled_from(VALUES[kind]), min_size=1, max_size=3))
    if len(some) == 1:
        return some[0]
    joiners = draw(st.lists(st.sampled_from([" or ", " and ", " or not "]), min_size=2, max_size=2))
    return (
        "("
        + some[0]
        + "".join(joiner + value for joiner, value in zip(joiners, some[1:], strict=False))
        + ")"
    )


@settings(max_examples=100)
@given(terms())
def test_agrees_with_tcpdump_on_generated_filters(text: str) -> None:
    agree(text)
