"""The firewall between real kernels."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from aiomos.apps import firewall
from aiomos.testing.packets import ethernet, ipv4, tcp_frame
from tests.live.conftest import Line
from tests.live.middlebox import Middlebox
from tests.live.network import Host
from tests.live.programs import (
    Aiomos,
    curl,
    echo,
    echo_datagrams,
    exchange,
    ping,
    serve,
    start_nginx,
    swallow,
    until,
)

CLIENT, SERVER = "192.0.2.1", "192.0.2.2"
QUIET_SECONDS = 0.2
"""How long a test waits for what must not come."""

MARK = ethernet(b"mark" * 20, ethertype=0x88B5)
"""Of the type that is meant for local experiments."""

ZONES = """
[zone.inside]
interface = "eth0"
[zone.outside]
interface = "eth1"
"""
OUTWARDS = """
[[default]]
from = "inside"
to = "outside"
action = "accept"
"""

Start = Callable[..., Middlebox]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return tmp_path / "firewall.toml"


@pytest.fixture
def start(in_line: Line, rules: Path) -> Start:
    """Start the firewall with rules behind those of the zones."""

    def start(text: str, *, keys: str = "", **options: Any) -> Middlebox:
        rules.write_text(keys + ZONES + text)
        firewall.app.options = firewall.Options(rules=rules, watch=0, **options)
        return Middlebox(in_line.middle, firewall.app)

    return start


def reload(box: Middlebox) -> None:
    box.call(lambda _: firewall._running[-1].firewall.reload())


def tallies(box: Middlebox) -> dict[str, dict[str, int]]:
    return box.call(lambda _: firewall._running[-1].firewall.counters.listing())


def datagram(host: Host) -> socket.socket:
    sock = host.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(QUIET_SECONDS)
    return sock


def crosses(frame: bytes, sender: Host, receiver: Host) -> bool:
    """Tell whether a frame gets to the other side; one that is no IP comes after it, and always does."""
    listener, wire = receiver.raw("eth0"), sender.raw("eth0")
    wire.send(frame)
    wire.send(MARK)
    with listener:
        while (seen := listener.recv(1 << 16)) != MARK:
            if seen == frame:
                return True
    return False


# --- TCP ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ipv6", [False, True])
def test_connections_go_out_and_not_in(in_line: Line, start: Start, ipv6: bool) -> None:
    box = start(OUTWARDS)
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    client, server = in_line.client, in_line.server
    for host in (client, server):
        serve(host, 7, echo, family=family)
    data = os.urandom(1_000_000)
    assert exchange(client.connect(server.address6 if ipv6 else server.address, 7), data) == data
    with pytest.raises(TimeoutError):
        server.connect(client.address6 if ipv6 else client.address, 7, timeout=QUIET_SECONDS)
    counted = tallies(box)
    assert counted["default 1"]["connections"] == 1
    assert counted["default"]["connections"] == 0
    box.stop()


def test_retransmitted_syn_is_refused_as_well(in_line: Line, start: Start) -> None:
    box = start('[[rule]]\nport = 7\naction = "drop"' + OUTWARDS)
    serve(in_line.server, 7, echo)
    with pytest.raises(TimeoutError):
        in_line.client.connect(SERVER, 7, timeout=1.5)  # Linux repeats a SYN after a second
    assert tallies(box)["rule 1"]["packets"] >= 2
    assert tallies(box)["rule 1"]["connections"] == 0


def test_rejected_connection_is_refused_at_once(in_line: Line, start: Start) -> None:
    start('[[rule]]\nport = 7\naction = "reject"' + OUTWARDS)
    serve(in_line.server, 7, echo)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            in_line.client.connect(SERVER, 7)


def test_segments_of_no_connection_are_refused(in_line: Line, start: Start) -> None:
    """An ACK scan from the outside reaches nobody, with accepting rules that are about what is new."""
    box = start('[[rule]]\naction = "accept"')
    for flags in ("A", "FA", "R", "SA", "", "FPU"):
        segment = tcp_frame(SERVER, CLIENT, 80, 5000, flags=flags, seq=1, ack=1, payload=b"scan")
        assert not crosses(segment, in_line.server, in_line.client), flags
    assert tallies(box)["invalid"]["packets"] == 6


def test_segment_out_of_window_is_refused(in_line: Line, start: Start) -> None:
    box = start(OUTWARDS)
    serve(in_line.server, 7, echo)
    connection = in_line.client.connect(SERVER, 7)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    port = connection.getsockname()[1]
    for flags in ("R", "A"):
        segment = tcp_frame(SERVER, CLIENT, 7, port, flags=flags, seq=0x12345678, payload=b"forged")
        assert not crosses(segment, in_line.server, in_line.client)
    connection.sendall(b"again")
    assert connection.recv(100) == b"again"
    assert tallies(box)["invalid"]["packets"] == 2


def test_connection_older_than_the_firewall_is_cut_off_or_taken_over(in_line: Line, start: Start) -> None:
    """By default what was not seen to begin does not pass; with midstream it does, as far as rules allow."""
    serve(in_line.server, 7, echo)
    first = start(OUTWARDS)
    connection = in_line.client.connect(SERVER, 7)
    connection.sendall(b"hello")
    assert connection.recv(100) == b"hello"
    first.stop()
    second = start(OUTWARDS)
    connection.settimeout(QUIET_SECONDS)
    connection.sendall(b"anybody there?")
    with pytest.raises(TimeoutError):
        connection.recv(100)
    second.stop()
    start(OUTWARDS, keys="midstream = 60\n")
    connection.settimeout(10)
    assert connection.recv(100) == b"anybody there?"


# --- UDP and ICMP -------------------------------------------------------------------------------------


def test_replies_come_in_and_nothing_else_does(in_line: Line, start: Start) -> None:
    box = start(OUTWARDS)
    client, server = datagram(in_line.client), datagram(in_line.server)
    server.bind((SERVER, 53))
    client.bind((CLIENT, 5353))
    server.sendto(b"unsolicited", (CLIENT, 5353))
    with pytest.raises(TimeoutError):
        client.recv(100)
    for number in range(100):
        client.sendto(b"question", (SERVER, 53))
        question, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        assert (question, client.recv(100)) == (b"question", b"answer"), number
    assert tallies(box)["default 1"] == {"packets": 1, "bytes": 0, "connections": 1}
    box.stop()


def test_ping_goes_out_and_not_in(in_line: Line, start: Start) -> None:
    start(OUTWARDS)
    ping(in_line.client, SERVER)
    ping(in_line.client, in_line.server.address6)
    for kind in (8, 0):  # a request, and a reply that nobody has asked for
        message = struct.pack("!BBHHH", kind, 0, 0, 7, 7)
        packet = ipv4(message, src=SERVER, dst=CLIENT, proto=1)
        assert not crosses(ethernet(packet), in_line.server, in_line.client)


def test_errors_about_what_was_accepted_come_in(in_line: Line, start: Start) -> None:
    start(OUTWARDS)
    client = datagram(in_line.client)
    client.connect((SERVER, 9))
    client.send(b"nobody listens")
    with pytest.raises(ConnectionRefusedError):
        client.recv(100)


def test_errors_about_nothing_do_not(in_line: Line, start: Start) -> None:
    box = start(OUTWARDS)
    quoted = ipv4(struct.pack("!HHHH", 5353, 53, 8, 0), src=CLIENT, dst=SERVER, proto=17)
    unreachable = struct.pack("!BBHI", 3, 3, 0, 0) + quoted
    in_line.server.raw("eth0").send(ethernet(ipv4(unreachable, src=SERVER, dst=CLIENT, proto=1)))
    until("it is refused", lambda: tallies(box).get("invalid", {}).get("packets"))


def test_rejected_datagram_is_told(in_line: Line, start: Start) -> None:
    start('[[rule]]\nproto = "udp"\naction = "reject"')
    client = datagram(in_line.client)
    client.connect((SERVER, 53))
    client.send(b"question")
    with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):  # what Linux makes of 3/13
        client.recv(100)


def test_rate_limit_of_each_source(in_line: Line, start: Start) -> None:
    limit = 'limit = "1/hour"\nburst = 3\nlimit_by = "source"\n'
    box = start(f'[[rule]]\nproto = "udp"\n{limit}action = "accept"')
    echo_datagrams(in_line.server, 7)
    answered = 0
    for _ in range(6):
        with datagram(in_line.client) as client, suppress(TimeoutError):
            client.sendto(b"hello", (SERVER, 7))
            answered += client.recv(100) == b"hello"
    assert answered == 3
    assert tallies(box)["default"]["packets"] == 3


# --- changes ------------------------------------------------------------------------------------------


def test_hot_reload_keeps_a_running_transfer(in_line: Line, rules: Path, tmp_path: Path) -> None:
    """A file that now allows nothing, and then one that is broken: what was accepted goes on, nothing new comes."""
    rules.write_text(ZONES + OUTWARDS)
    content = os.urandom(20_000_000)
    start_nginx(in_line.server, tmp_path / "nginx", {"file": content})
    box = Aiomos(
        *(in_line.middle, tmp_path / "run", "firewall", "--bridge", "eth0", "eth1"),
        *("--set", f"rules={rules}", "--set", "watch=0.05"),
    )
    with in_line.client.connect(SERVER, 80) as connection:
        connection.sendall(b"GET /file HTTP/1.0\r\n\r\n")
        received = bytearray(connection.recv(1000))
        rules.write_text(ZONES)
        box.wait_for("rules_reloaded")
        with pytest.raises(TimeoutError):
            in_line.client.connect(SERVER, 80, timeout=QUIET_SECONDS)
        rules.write_text("zone = 7")
        box.wait_for("rules_refused")
        while data := connection.recv(1 << 20):
            received += data
    assert received.endswith(content)
    rules.write_text(ZONES + OUTWARDS)
    until("the rules are back", lambda: [r["event"] for r in box.log].count("rules_reloaded") == 2)
    assert curl(in_line.client, f"http://{SERVER}/file") == content
    ended = box.stop()
    (tally,) = [record for record in ended.log if record.get("rule") == "default 1"]
    assert tally["connections"] == 2
    assert tally["packets"] > 20


def test_signal_reloads(in_line: Line, rules: Path, tmp_path: Path) -> None:
    rules.write_text(ZONES)
    box = Aiomos(
        *(in_line.middle, tmp_path / "run", "firewall", "--bridge", "eth0", "eth1"),
        *("--set", f"rules={rules}", "--set", "watch=0"),
    )
    rules.write_text(ZONES + OUTWARDS)
    box.process.send_signal(signal.SIGHUP)
    box.wait_for("rules_reloaded")
    ping(in_line.client, SERVER)
    assert box.stop().status == 0


@pytest.mark.parametrize(("action", "error"), [("drop", TimeoutError), ("reject", ConnectionResetError)])
def test_recheck_ends_what_is_refused_now(
    in_line: Line, start: Start, rules: Path, action: str, error: type[Exception]
) -> None:
    box = start(OUTWARDS, keys="recheck = true\n")
    serve(in_line.server, 7, echo)
    serve(in_line.server, 8, swallow)
    ended, kept = (in_line.client.connect(SERVER, port) for port in (7, 8))
    ended.sendall(b"hello")
    assert ended.recv(100) == b"hello"
    rule = f'[[rule]]\nport = 7\naction = "{action}"'
    rules.write_text("recheck = true\n" + ZONES + rule + OUTWARDS)
    reload(box)
    ended.settimeout(QUIET_SECONDS)
    with pytest.raises(error):
        ended.sendall(b"still there?")
        ended.recv(100)
    kept.sendall(b"more")
    kept.shutdown(socket.SHUT_WR)
    assert kept.recv(100) == b""


def test_refused_packets_are_logged(in_line: Line, rules: Path, tmp_path: Path) -> None:
    rules.write_text(ZONES + '[[rule]]\nname = "telnet"\nport = 23\nlog = true\naction = "reject"')
    box = Aiomos(
        *(in_line.middle, tmp_path / "run", "firewall", "--bridge", "eth0", "eth1"),
        *("--set", f"rules={rules}", "--set", "log_rate=1"),
    )
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            in_line.client.connect(SERVER, 23)
    ended = box.stop()
    lines = [record for record in ended.log if record["event"] == "rejected"]
    (line,) = lines[:1]
    expected = {"rule": "telnet", "src": CLIENT, "dst": SERVER, "dport": 23, "enters": "eth0", "state": "new"}
    assert {name: line[name] for name in expected} == expected
    held = sum(record.get("held_back", record.get("lines", 0)) for record in ended.log)
    assert len(lines) + held == 5
    assert json.dumps(lines)
