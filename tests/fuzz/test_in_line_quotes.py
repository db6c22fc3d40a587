"""ICMP errors in line, about flows that are edited, sessions and whatever else passes: none ends the process."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiomos import CONN_SETUP, PKT_IN, App, Hook, Packet, Session, SessionError, Settings
from aiomos.testing.packets import (
    checksum,
    ethernet,
    fragment_ipv4,
    ipv4,
    ipv6,
    ipv6_extension,
    ipv6_fragment,
    pseudo_header,
    tcp,
    tcp_frame,
    udp_frame,
)
from tests.fuzz.hostile import read_frames
from tests.fuzz.in_line import check_in_line
from tests.fuzz.quotes import ERRORS, WRITTEN_ANEW, error_about, with_errors
from tests.fuzz.test_in_line_damage import MOST_FRAMES, all_choices
from tests.fuzz.test_mutations import MUTATIONS, each_capture
from tests.line import Back, Line, cross
from tests.wrappings import TAGS

ENDS4, ENDS6 = ("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")


def ip_of(frame: bytes) -> bytes:
    return frame[14:]


def ip_payload(packet: bytes) -> bytes:
    return packet[40:] if packet[0] >> 4 == 6 else packet[20:]


@each_capture
def test_errors_about_all_that_passes(path: Path) -> None:
    frames = read_frames(path)[: MOST_FRAMES // 2]
    chosen = random.Random(path.name + "?")
    for _, choices in zip(range(MUTATIONS), all_choices(chosen), strict=False):
        check_in_line([*with_errors(frames, chosen)], choices)


QUOTED = {
    "TCP": ipv4(tcp(b"hello")),
    "TCP with options": ipv4(tcp(b"hello", options=b"\x01" * 12), options=b"\x94\x04\0\0"),
    "UDP": ip_of(udp_frame(*ENDS4, payload=b"question")),
    "first fragment": fragment_ipv4(ipv4(tcp(bytes(99))), 48)[0],
    "later fragment": fragment_ipv4(ipv4(tcp(bytes(99))), 48)[1],
    "GRE": ipv4(bytes(30), proto=47),
    "TCP over IPv6": ipv6(tcp(b"hello", src=ENDS6[0], dst=ENDS6[1]), src=ENDS6[0], dst=ENDS6[1]),
    "UDP over IPv6": ip_of(udp_frame(*ENDS6, payload=b"question")),
    "behind extensions": ipv6(
        ipv6_extension(ipv6_extension(tcp(src=ENDS6[0], dst=ENDS6[1])), proto=60),
        proto=0,
        src=ENDS6[0],
        dst=ENDS6[1],
    ),
    "IPv6 fragment": ipv6(
        ipv6_fragment(tcp(bytes(60), src=ENDS6[0], dst=ENDS6[1]), more_fragments=True),
        proto=44,
        src=ENDS6[0],
        dst=ENDS6[1],
    ),
}


def every_error() -> Iterator[bytes]:
    """Every type and code about a whole packet, and every length of every packet, once more within an error."""
    for name, quoted in QUOTED.items():
        six = quoted[0] >> 4 == 6
        for kind in range(256):
            yield ethernet(error_about(quoted[:28], kind, kind % 16))
        for kind in (1, 2, 3, 4) if six else (3, 4, 5, 11, 12):
            for code in range(16):
                yield ethernet(error_about(quoted, kind, code))
        for length in range(len(quoted) + 1):
            error = error_about(quoted[:length], 1 if six else 3, 1)
            yield ethernet(error)
            yield ethernet(error_about(error, 1 if six and length else 3, 1))
        assert name


@pytest.mark.parametrize("fail", ["open", "closed"])
def test_every_error_passes_flows_and_sessions(fail: Any) -> None:
    """With a flow that was edited and a session in place, over IPv4 and IPv6; no callback fails, nothing is lost."""
    app: App[None] = App("everything")
    seen: list[object] = []
    app.on(CONN_SETUP)(lambda: None)

    @app.on(PKT_IN, hook=Hook.RAW)
    def first(pkt: Packet) -> None:
        seen.append((pkt.known, repr(pkt), pkt.payload, pkt.copy().raw))
        if pkt.proto == 17 and not pkt.known:
            pkt.session(idle=60, sport=9000)

    @app.on(PKT_IN, hook=Hook.SENDER)
    def edit(pkt: Packet) -> None:
        if pkt.payload:
            pkt.replace(pkt.payload + b"!")

    opening: Line = []
    for client, server in (ENDS4, ENDS6):
        opening += [
            tcp_frame(client, server, seq=100),
            Back(tcp_frame(server, client, 80, 1234, 500, 101, "SA")),
            tcp_frame(client, server, seq=101, ack=501, flags="A", payload=b"hello"),
            udp_frame(client, server, payload=b"question"),
        ]
    errors = [*every_error()]
    crossing = cross([*opening, *map(Back, errors)], app, settings=Settings(on_error="raise", fail=fail))
    assert len(seen) == len(errors) + len(opening)
    assert len(crossing.back) >= len(errors) + 2
    assert crossing.counters["dropped"] == 0
    assert crossing.report.counters["icmp"] > 3000


@pytest.mark.parametrize("name", WRITTEN_ANEW)
@pytest.mark.parametrize("ends", [ENDS4, ENDS6], ids=["IPv4", "IPv6"])
def test_errors_about_a_session_may_become_anything(name: str, ends: tuple[str, str]) -> None:
    """Those of both its ends and of others are replaced by each other, and more; what leaves has right checksums."""
    chosen = random.Random(name)
    wrap = TAGS[name].wrap
    question = ip_of(udp_frame(*ends, 4000, 7, payload=b"question" * 5))
    asked = ip_of(udp_frame(*ends, 9000, 7, payload=b"question" * 5))
    answer = ip_of(udp_frame(ends[1], ends[0], 7, 4000, payload=b"answer" * 7))
    others = [packet for packet in QUOTED.values() if packet[0] >> 4 == question[0] >> 4]
    kinds = ERRORS[question[0] >> 4]
    errors = [
        error_about(packet[:length], chosen.choice(kinds), chosen.randrange(5))
        for packet in (answer, asked, answer, asked, *others)
        for length in range(1, len(packet) + 1)
    ]
    chosen.shuffle(errors)
    done: Counter[str] = Counter()
    sessions: list[Session] = []
    app: App[None] = App("alters")

    @app.on(PKT_IN, hook=Hook.RAW)
    def alter(pkt: Packet) -> None:
        if pkt.proto == 17:
            sessions.append(pkt.session(idle=60, sport=9000))
            return
        for _ in range(chosen.choice((1, 1, 2, 3))):
            now, other = pkt.payload, ip_payload(chosen.choice(errors))
            new = chosen.choice(
                (now[: chosen.randrange(60)], other, other[: chosen.randrange(60)], now + bytes(9))
            )
            acts: dict[str, Callable[[], object]] = {
                "replace": lambda new=new: pkt.replace(new),
                "session": lambda: sessions.append(pkt.session(idle=60, sport=chosen.choice((None, 9001)))),
                "set": lambda: pkt.set(src=ends[0], ttl=9, eth_src="02:00:00:00:00:09"),
                "reject": pkt.reject,
            }
            act = chosen.choice(("replace", "replace", "replace", *acts))
            with contextlib.suppress(SessionError, ValueError):
                acts[act]()
                done[act] += 1

    frames: Line = [wrap(question)]
    for error in errors:
        pieces = fragment_ipv4(error, 40) if ends is ENDS4 and chosen.random() < 0.4 else [error]
        there = chosen.random() < 0.5
        frames += [frame if there else Back(frame) for frame in map(wrap, pieces)]
    crossing = cross(frames, app)
    assert len(errors) > 400
    assert done["replace"] > 300
    assert min(done["set"], done["reject"]) > 30
    assert done["session"] == len(sessions) - 1 > 0
    assert all(session is sessions[0] for session in sessions)
    whole = 0
    for frame in (*crossing.there[1:], *crossing.back):
        packet = Packet.decode(frame)
        if packet.fragment_offset is None:
            pseudo = pseudo_header(packet.src, packet.dst, 58, packet.payload_len or 0)
            assert checksum((b"" if packet.ip_version == 4 else pseudo) + packet.payload) == 0
            whole += 1
    assert whole > 200
