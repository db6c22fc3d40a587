"""assets: who runs what, from handshakes and first words; nothing beyond the limit, nothing of other networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

import aiomos
from aiomos import PKT_OUT, App, Flow, Level, OptionError, Packet
from aiomos.apps import assets
from aiomos.apps.assets.banners import LOOK, Banners, server_name, text
from aiomos.apps.assets.fingerprints import Signature, fingerprint, guesser, read_signatures
from aiomos.apps.assets.inventory import VARIANTS
from aiomos.testing.packets import ethernet, ipv4, tcp, tcp_frame
from aiomos.testing.scenario import Conversation
from tests.events import play
from tests.traffic import Connection, Side, Traffic

DATA = Path(__file__).parents[2] / "data"
CAPTURES = sorted([*DATA.glob("*.pcap*"), *DATA.glob("hard/*.pcap*")])
FIELDS = [
    *("event", "address", "kind", "port", "name", "product", "version", "detail", "confidence", "evidence"),
    *("distance", "first", "last", "seen", "midstream"),
]
Record = dict[str, Any]
Detect = Callable[..., list[Record]]

MSS, SOK, NOP, EOL = b"\x02\x04\x05\xb4", b"\x04\x02", b"\x01", b"\0"
TS = b"\x08\x0a\0\0\0\x01\0\0\0\0"


def ws(shift: int) -> bytes:
    return b"\x03\x03" + bytes([shift])


@pytest.fixture
def detect(tmp_path: Path) -> Detect:
    """Run the app over captures or traffic with options; returns the records it wrote."""

    def run(*sources: Path | Traffic, **options: Any) -> list[Record]:
        path = tmp_path / "assets.jsonl"
        assets.app.configure([f"path={path}", *(f"{name}={value}" for name, value in options.items())])
        captures = [
            source if isinstance(source, Path) else source.write(tmp_path / f"{number}.pcapng")
            for number, source in enumerate(sources)
        ]
        aiomos.run(assets.app, pcap=captures, settings=aiomos.Settings(on_error="raise"))
        return [json.loads(line) for line in path.read_text().splitlines()]

    return run


def ended(records: list[Record], kind: str) -> list[Record]:
    return [record for record in records if record["event"] == "end" and record["kind"] == kind]


def says(records: list[Record], kind: str) -> list[tuple[Any, ...]]:
    """What was found of a kind, in short."""
    return [
        (r["address"], r["port"], r["name"], r["product"], r["version"], r["detail"])
        for r in ended(records, kind)
    ]


def talk(*words: tuple[Side, bytes]) -> Traffic:
    traffic = Traffic()
    conn = traffic.connection()
    for side, data in words:
        conn.segment(side, data)
    conn.close()
    return traffic


# --- systems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "ttl", "window", "options", "df", "flags"),
    [
        (("Linux", "4.20 or later", "high"), 64, 64240, MSS + SOK + TS + NOP + ws(7), True, "S"),
        (("Linux", "3.11 to 4.19", "high"), 57, 29200, MSS + SOK + TS + NOP + ws(7), True, "S"),
        (("Linux", "2.6.39 to 3.10", "high"), 64, 14600, MSS + SOK + TS + NOP + ws(6), True, "S"),
        (("Linux", "2.6.0 to 2.6.38", "high"), 50, 5840, MSS + SOK + TS + NOP + ws(6), True, "S"),
        (("Linux", "2.4", "high"), 64, 5840, MSS + SOK + TS + NOP + ws(0), True, "S"),
        (("Linux", "Android", "medium"), 63, 65535, MSS + SOK + TS + NOP + ws(9), True, "S"),
        (("Windows", "10, 11, Server 2016 or later", "high"), 128, 64240,
         MSS + NOP + ws(8) + NOP * 2 + SOK, True, "S"),
        (("Windows", "Vista, 7, 8, Server 2008 or 2012", "high"), 120, 8192,
         MSS + NOP + ws(8) + NOP * 2 + SOK, True, "S"),
        (("Windows", "2000, XP or Server 2003", "high"), 128, 65535, MSS + NOP * 2 + SOK, True, "S"),
        (("macOS or iOS", "OS X 10.9, iOS 7, or later", "high"), 64, 65535,
         MSS + NOP + ws(6) + NOP * 2 + TS + SOK + EOL * 2, True, "S"),
        (("FreeBSD", "9 or later", "high"), 64, 65535, MSS + NOP + ws(6) + SOK + TS, True, "S"),
        (("OpenBSD", None, "high"), 64, 16384, MSS + NOP * 2 + SOK + NOP + ws(6) + NOP * 2 + TS, True, "S"),
        (("Nmap", "SYN scan", "high"), 41, 1024, MSS, False, "S"),
        (("Cisco IOS", None, "high"), 254, 4128, MSS, False, "S"),
        (("Linux", "4.20 or later", "high"), 52, 65160, MSS + SOK + TS + NOP + ws(7), True, "SA"),
        (("Linux", "3.11 to 4.19", "high"), 52, 28960, MSS + SOK + TS + NOP + ws(7), True, "SA"),
        (("FreeBSD", None, "high"), 64, 65535, MSS + NOP + ws(6) + SOK + TS, True, "SA"),
        (("unknown", None, "none"), 64, 777, MSS + b"\xfd\x02", True, "S"),
    ],
)  # fmt: skip
def test_a_stack_is_known_by_its_handshake(
    expected: tuple[str, str | None, str], ttl: int, window: int, options: bytes, df: bool, flags: str
) -> None:
    segment = tcp(flags=flags, window=window, options=options, seq=7)
    frame = ethernet(ipv4(segment, ttl=ttl, dont_fragment=df, ip_id="A" not in flags))
    seen, distance = fingerprint(Packet.decode(frame))
    found = guesser()(seen)
    assert (found.name, found.version, found.confidence) == expected
    assert distance == {57: 7, 50: 14, 63: 1, 120: 8, 41: 23, 254: 1, 52: 12}.get(ttl, 0)


TFO, COOKIE, MPTCP = b"\x22\x02", b"\x22\x0a" + bytes(range(8)), b"\x1e\x04\x01\x01"
MD5 = b"\x13\x12" + bytes(range(16))
ACCECN = b"\xac\x0b" + bytes(9)
LINUX, MAC = MSS + SOK + TS + NOP + ws(10), MSS + NOP + ws(6) + NOP * 2 + TS + SOK
FREEBSD, OPENBSD = MSS + NOP + ws(6) + SOK + TS, MSS + NOP * 2 + SOK + NOP + ws(6) + NOP * 2 + TS
WINDOWS = MSS + NOP + ws(8) + NOP * 2 + SOK


@pytest.mark.parametrize(
    ("expected", "ttl", "window", "options", "flags"),
    [
        # As Linux 6.18 sends them, by net.ipv4.tcp_* and net.mptcp.enabled.
        (("Linux", "6.16 or later", "high"), 64, 64240, LINUX, "S"),
        (("Linux", "6.16 or later", "medium"), 64, 64240, LINUX + TFO + NOP * 2, "S"),
        (("Linux", "6.16 or later", "medium"), 64, 64240, LINUX + NOP * 2 + COOKIE, "S"),
        (("Linux", "6.16 or later", "medium"), 64, 64240, LINUX + MPTCP, "S"),
        (("Linux", "6.16 or later", "medium"), 64, 64240, LINUX + MPTCP + TFO + NOP * 2, "S"),
        (("Linux", "buffers tuned", "medium"), 64, 65535, MSS + SOK + TS + NOP + ws(11), "S"),
        (("Linux", "without timestamps", "medium"), 64, 64240,
         MD5 + NOP * 2 + MSS + NOP * 2 + SOK + NOP + ws(7), "S"),
        (("Linux", "without timestamps", "medium"), 64, 64240, MSS + NOP * 2 + SOK + NOP + ws(10) + MPTCP, "S"),
        (("Linux", "options turned off", "medium"), 64, 64240, MSS + NOP * 2 + TS + NOP + ws(10), "S"),
        (("Linux", "options turned off", "medium"), 64, 64240, MSS + SOK + TS, "S"),
        (("Linux", "options turned off", "low"), 64, 64240, MSS + SOK + TS + TFO + NOP * 2, "S"),
        (("Linux", "options turned off", "medium"), 64, 64240, MSS + NOP * 2 + TS, "S"),
        (("Linux", "options turned off", "low"), 64, 64240, MSS + NOP * 2 + SOK, "S"),
        (("Linux", "options turned off", "low"), 64, 64240, MSS + NOP + ws(10), "S"),
        (("Linux", "options turned off", "low"), 64, 64240, MSS, "S"),
        (("Linux", "options turned off", "low"), 64, 64240, MSS + MPTCP, "S"),
        (("Linux", "4.20 or later", "medium"), 64, 65160, MSS + SOK + TS + NOP + ws(7) + MPTCP, "SA"),
        (("Linux", "4.20 or later", "medium"), 64, 65160, MSS + SOK + TS + NOP + ws(7) + ACCECN + NOP, "SA"),
        # Others, with what may be added there.
        (("macOS or iOS", "OS X 10.9, iOS 7, or later", "medium"), 64, 65535, MAC + TFO, "S"),
        (("macOS or iOS", "OS X 10.9, iOS 7, or later", "medium"), 64, 65535, MAC + MPTCP + EOL * 2, "S"),
        (("Windows", "10, 11, Server 2016 or later", "medium"), 128, 64240, WINDOWS + TFO + NOP * 2, "S"),
        (("Windows", "10, 11, Server 2016 or later", "medium"), 128, 65535, WINDOWS + COOKIE + NOP * 2, "S"),
        (("FreeBSD", "9 or later", "medium"), 64, 65535, FREEBSD + TFO + EOL * 2, "S"),
        (("FreeBSD", "9 or later", "medium"), 64, 65535, FREEBSD + NOP * 2 + MD5, "S"),
        (("OpenBSD", None, "medium"), 64, 16384, OPENBSD + TFO + NOP * 2, "S"),
        # An order of no stack that is known is none with something added, either.
        (("unknown", None, "none"), 64, 64240, SOK + MSS + NOP + ws(7) + TFO, "S"),
        (("unknown", None, "none"), 64, 64240, TFO + NOP * 2, "S"),
    ],
)  # fmt: skip
def test_options_that_were_added_do_not_hide_the_stack(
    expected: tuple[str, str | None, str], ttl: int, window: int, options: bytes, flags: str
) -> None:
    segment = tcp(flags=flags, window=window, options=options, seq=7)
    frame = ethernet(ipv4(segment, ttl=ttl, dont_fragment=True, ip_id="A" not in flags))
    seen, _ = fingerprint(Packet.decode(frame))
    found = guesser()(seen)
    assert (found.name, found.version, found.confidence) == expected


def test_a_lowered_mss_does_not_hide_the_stack() -> None:
    """Routers of tunnels and DSL lines lower the MSS and leave the window."""
    options = b"\x02\x04\x05\xac" + SOK + TS + NOP + ws(7)
    frame = ethernet(ipv4(tcp(flags="S", window=29200, options=options), dont_fragment=True, ip_id=5))
    assert guesser()(fingerprint(Packet.decode(frame))[0]).version == "3.11 to 4.19"


def test_a_sequence_number_that_is_the_destination_gives_mirai_away() -> None:
    seen, _ = fingerprint(Packet.decode(tcp_frame(dst="10.0.0.2", seq=0x0A000002, flags="S")))
    assert "seq=dst" in seen.quirks
    assert guesser()(seen).name == "Mirai"


def test_kernels_of_recorded_captures_are_linux(detect: Detect) -> None:
    systems = ended(detect(DATA / "http.pcap"), "os")
    assert [(r["address"], r["name"], r["distance"], r["seen"]) for r in systems] == [
        ("192.0.2.1", "Linux", 0, 2),
        ("192.0.2.2", "Linux", 0, 2),
    ]
    assert all(r["evidence"].startswith("syn") for r in systems)


def test_a_syn_ack_is_enough(detect: Detect) -> None:
    (system,) = ended(detect(DATA / "one_sided.pcap"), "os")
    assert (system["address"], system["name"]) == ("192.0.2.2", "Linux")


def test_own_signatures_come_first(detect: Detect, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[os]]\nname = "our router"\npacket = "syn"\nconfidence = "high"\nttl = 64\n')
    names = {r["address"]: r["name"] for r in ended(detect(DATA / "http.pcap", signatures=own), "os")}
    assert names == {"192.0.2.1": "our router", "192.0.2.2": "Linux"}


@pytest.mark.parametrize(
    "text",
    [
        "[[os]\n",
        '[[os]]\nname = "x"\n',
        '[[os]]\nname = "x"\npacket = "fin"\nconfidence = "high"\n',
        '[[os]]\nname = "x"\npacket = "syn"\nconfidence = "sure"\n',
        '[[os]]\nname = "x"\npacket = "syn"\nconfidence = "high"\nwindow = "mss*some"\n',
        '[[os]]\nname = "x"\npacket = "syn"\nconfidence = "high"\ncolour = "red"\n',
    ],
)
def test_a_bad_signature_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(OptionError, match=r"own\.toml"):
        read_signatures(text, "own.toml")


def test_no_shipped_signature_is_hidden_by_one_before_it() -> None:
    """One that says no more than an earlier one would never be reached."""
    source = Path(assets.__file__).with_name("signatures.toml")
    known = read_signatures(source.read_text(), source.name)
    assert len(known) > 40
    assert not [(at, k) for at, k in enumerate(known) if any(covers(earlier, k) for earlier in known[:at])]


def covers(wide: Signature, narrow: Signature) -> bool:
    """Whether all that has the narrow signature has the wide one, as far as their values tell."""
    return (
        wide.packet == narrow.packet
        and wide.ttl in (None, narrow.ttl)
        and wide.dont_fragment in (None, narrow.dont_fragment)
        and wide.quirks <= narrow.quirks
        and all(
            not (a := set(getattr(wide, name))) or ((b := set(getattr(narrow, name))) and b <= a)
            for name in ("window", "mss", "scale", "options")
        )
    )


# --- services and clients -------------------------------------------------------------------------

SSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([("server", SSH)], ("ssh", "OpenSSH", "9.2p1", "Debian-2+deb12u3")),
        ([("server", b"SSH-2.0-dropbear_2019.78\r\n")], ("ssh", "dropbear", "2019.78", None)),
        ([("client", b"GET / HTTP/1.1\r\n\r\n"), ("server", b"HTTP/1.1 200 OK\r\nA: x\r\nServer: nginx/1.2\r\n\r\n")],
         ("http", "nginx", "1.2", None)),
        ([("client", b"GET / HTTP/1.1\r\n\r\n"), ("server", b"HTTP/1.0 404 No\r\nDate: x\r\n\r\n")],
         ("http", None, None, None)),
        ([("server", b"220 mail.example ESMTP Postfix (Debian)\r\n")], ("smtp", "Postfix", None, "mail.example")),
        ([("server", b"220 hello\r\n"), ("client", b"EHLO me\r\n"), ("server", b"250 you\r\n")],
         ("smtp", None, None, "hello")),
        ([("server", b"220 hello\r\n"), ("client", b"USER me\r\n"), ("server", b"331 so?\r\n")],
         ("ftp", None, None, "hello")),
        ([("server", b"220 (vsFTPd 3.0.3)\r\n")], ("ftp", "vsFTPd", "3.0.3", None)),
        ([("server", b"+OK Dovecot ready.\r\n")], ("pop3", "Dovecot", None, None)),
        ([("server", b"* OK [CAPABILITY IMAP4rev1] Dovecot ready.\r\n")], ("imap", "Dovecot", None, None)),
        ([("server", b"\x4a\0\0\0\x0a8.0.36\0rest")], ("mysql", "MySQL", "8.0.36", None)),
        ([("server", b"\x4a\0\0\0\x0a5.5.5-10.3.39-MariaDB-log\0rest")], ("mysql", "MariaDB", "10.3.39", None)),
        ([("client", b"*1\r\n$4\r\nPING\r\n"), ("server", b"+PONG\r\n")], ("redis", None, None, None)),
        ([("client", b"\0\0\0\x08\x04\xd2\x16\x2f"), ("server", b"S")], ("postgresql", None, None, None)),
        ([("server", b"RFB 003.008\n")], ("vnc", None, "003.008", None)),
        ([("client", b"OPTIONS sip:x SIP/2.0\r\n\r\n"), ("server", b"SIP/2.0 200 OK\r\nServer: Asterisk PBX\r\n\r\n")],
         ("sip", "Asterisk PBX", None, None)),
        ([("server", b"\xff\xfd\x18\xff\xfd\x20")], ("telnet", None, None, None)),
        ([("server", b"Login, stranger: ")], ("unknown", None, None, None)),
    ],
)  # fmt: skip
def test_a_service_is_known_by_its_banner(
    detect: Detect, words: list[tuple[Side, bytes]], expected: tuple[str | None, ...]
) -> None:
    assert says(detect(talk(*words)), "service") == [("10.0.0.2", 80, *expected)]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_banner_in_pieces_is_not_taken_for_a_shorter_one(detect: Detect, size: int) -> None:
    traffic = Traffic()
    conn = traffic.connection()
    for at in range(0, len(SSH), size):
        traffic.cut()
        conn.server(SSH[at : at + size])
    conn.close()
    records = detect(traffic)
    assert says(records, "service") == [("10.0.0.2", 80, "ssh", "OpenSSH", "9.2p1", "Debian-2+deb12u3")]
    assert [r["event"] for r in records if r["kind"] == "service"] == ["new", "end"]


def test_clients_are_known_by_what_they_call_themselves(detect: Detect) -> None:
    assert ("192.0.2.1", None, "http", "curl/7.88.1", None, None) in says(
        detect(DATA / "http.pcap"), "client"
    )
    found = says(detect(talk(("server", SSH), ("client", b"SSH-2.0-PuTTY_Release_0.70\r\n"))), "client")
    assert found == [("10.0.0.1", None, "ssh", "PuTTY_Release", "0.70", None)]


def test_tls_is_known_by_its_hello_with_the_name_asked_for(detect: Detect) -> None:
    assert says(detect(DATA / "tls.pcap"), "service") == [
        ("192.0.2.2", 443, "tls", None, "1.2", "server.example")
    ]


@pytest.mark.parametrize("length", [0, 1, 5, 6, 43, 44, 60])
def test_a_broken_hello_tells_nothing(length: int) -> None:
    hello = (b"\x16\x03\x01\x00\xff\x01\x00\x00\xfb\x03\x03" + bytes(50))[:length]
    assert server_name(hello) is None
    assert Banners().find("server", hello, hello) is None


def test_what_comes_from_the_wire_cannot_steer_a_terminal(tmp_path: Path) -> None:
    assert text(b"a\x1b[2J\xff\n") == r"a\x1b[2J\xff"
    path = tmp_path / "table"
    traffic = talk(("server", b"SSH-2.0-[bold]\x1b]0;x\x07\r\n"))
    assets.app.configure([f"path={path}", "format=table"])
    aiomos.run(assets.app, pcap=[traffic.write(tmp_path / "x.pcapng")])
    assert "[bold]" in path.read_text()
    assert "\x1b" not in path.read_text()


@pytest.mark.parametrize(
    "start", [b"", b"SSH-2.0-a", b"220 ", b"220-a ", b"200 ", b"* OK ", b"+OK ", b"HTTP/1.1 200 O\r\n"]
)
def test_no_bytes_keep_the_patterns_busy(start: bytes) -> None:
    """Backtracking over 4 kB twice and three times takes seconds; this would not end before its time-out."""
    banners = Banners()
    known: list[str] = []
    for piece in (
        b"-1",
        b"INN ",
        b"FTP ",
        b"1.",
        b"Dovecot ",
        b"vsFTPd 1",
        b"Exim 4 ",
        b"a:b\r\n",
        b"Cyrus IMAP v1 ",
        b"a ",
    ):
        data = (start + piece * LOOK)[: LOOK - 1] + b"\0"
        for side in ("client", "server"):
            found = [banners.find(side, data, data) for _ in range(20)]
            assert found == found[:1] * 20
            known += [f"{side} {finding.name}" for finding in found[:1] if finding is not None]
    assert known == {b"SSH-2.0-a": ["client ssh", "server ssh"], b"* OK ": ["server imap"]}.get(start, [])


def test_a_change_is_told_once(detect: Detect) -> None:
    traffic = Traffic()
    for number, version in enumerate((b"1.2", b"1.3", b"1.2")):
        conn: Connection = traffic.connection(1000 + number)
        conn.client(b"GET / HTTP/1.1\r\n\r\n")
        conn.server(b"HTTP/1.1 200 OK\r\nServer: nginx/" + version + b"\r\n\r\n")
        conn.close()
        traffic.cut()
    changes = [r for r in detect(traffic) if r["kind"] == "service" and r["event"] != "end"]
    assert [(r["event"], r["version"], r.get("was")) for r in changes] == [
        ("new", "1.2", None),
        ("changed", "1.3", "http nginx 1.2"),
    ]


def test_the_end_tells_first_and_last_sight(detect: Detect) -> None:
    records = [r for r in detect(DATA / "http.pcap") if r["kind"] == "os" and r["address"] == "192.0.2.1"]
    new, end = records
    assert list(new) == FIELDS
    assert new["first"] == new["last"] == end["first"] < end["last"]


def test_long_talk_of_an_unknown_protocol_is_given_up(detect: Detect) -> None:
    traffic = talk(*[("server", bytes(1000)) for _ in range(4 * LOOK // 1000 + 2)])
    assert says(detect(traffic), "service") == [("10.0.0.2", 80, "unknown", None, None, None)]


@pytest.mark.parametrize(
    ("words", "followed"),
    [
        ([("client", SSH), ("server", SSH)], 0),
        ([("client", SSH)], 6),
        ([("client", bytes(LOOK)), ("server", SSH)], 0),
        ([("client", bytes(LOOK - 1)), ("server", SSH)], 1),
        ([("client", bytes(4 * LOOK))], 1),
        ([("client", bytes(4 * LOOK + 1))], 0),
    ],
)
def test_a_connection_is_followed_until_both_ends_are_known(
    tmp_path: Path, words: list[tuple[Side, bytes]], followed: int
) -> None:
    """Or have said enough; what comes then costs no more than an app that looks at no bytes."""
    assets.app.configure([f"path={tmp_path / 'assets.jsonl'}"])
    other: App[None] = App("other")
    levels: list[Level] = []

    @other.on(PKT_OUT)
    def note(flow: Flow) -> None:
        levels.append(flow.client.level)

    conversation = Conversation().handshake()
    for side, data in [*words, *[("client", b"x")] * 6]:
        conversation.send(side, "PA", data)
    play(conversation.frames, assets.app, other)
    assert levels.count(Level.STREAM) == 3 + len(words) + followed


def test_both_halves_are_looked_at_though_one_has_said_enough_in_the_same_batch(detect: Detect) -> None:
    traffic = talk(("client", SSH), *[("client", bytes(1000))] * 30, ("server", SSH), ("client", b"x"))
    records = detect(traffic)
    assert says(records, "service") == [("10.0.0.2", 80, "ssh", "OpenSSH", "9.2p1", "Debian-2+deb12u3")]
    assert len(says(records, "client")) == 1


def test_a_warning_may_come_before_the_hello() -> None:
    hello = b"\x16\x03\x03\0\x2a\x02\0\0\x26\x03\x03" + bytes(32) + b"\0\xc0\x2f\0"
    for data in (hello, b"\x15\x03\x03\0\x02\x01\x70" + hello):
        found = Banners().find("server", data, b"")
        assert found is not None
        assert found.version == "1.2"
        assert Banners().find("client", data, b"") is None, "who says so is no client"


# --- options --------------------------------------------------------------------------------------


def test_only_hosts_of_the_networks_are_reported(detect: Detect) -> None:
    assert {r["address"] for r in detect(DATA / "http.pcap", networks="192.0.2.2/32")} == {"192.0.2.2"}
    assert detect(DATA / "http.pcap", networks="10.0.0.0/8,2001:db8::/32") == []
    assert len({r["address"] for r in detect(DATA / "ipv6.pcap", networks="10.0.0.0/8,2001:db8::/32")}) == 2


def test_services_can_be_left_out(detect: Detect) -> None:
    assert {r["kind"] for r in detect(DATA / "http.pcap", services="off")} == {"os"}


def test_what_is_found_in_midstream_connections_is_marked_and_can_be_left_out(detect: Detect) -> None:
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.client(b"GET / HTTP/1.1\r\nUser-Agent: x\r\n\r\n")
    conn.server(b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n")
    assert detect(traffic, midstream=False) == []
    records = detect(traffic)
    assert {record["midstream"] for record in records} == {True}
    assert says(records, "service") == [("10.0.0.2", 80, "http", "nginx", None, None)]
    assert says(records, "client") == [("10.0.0.1", None, "http", "x", None, None)]


def test_once_the_syn_was_seen_a_finding_is_no_more_of_midstream_connections_alone(detect: Detect) -> None:
    traffic = Traffic()
    for port in (1000, 1001):
        conn = traffic.connection(port, opened=port == 1001)
        conn.client(b"GET / HTTP/1.1\r\nUser-Agent: x\r\n\r\n")
        conn.server(b"HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n")
    (service,) = (r for r in detect(traffic) if r["event"] == "end" and r["kind"] == "service")
    assert (service["seen"], service["midstream"]) == (2, False)


def test_a_guessed_server_that_says_nothing_known_is_no_service(detect: Detect) -> None:
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.client(b"\0\1\2")
    conn.server(b"\3\4\5")
    conn.close()
    assert detect(traffic) == []


def test_the_filter_picks_connections(detect: Detect) -> None:
    assert detect(DATA / "http.pcap", filter="server port 81") == []


def test_more_assets_than_the_limit_are_counted(detect: Detect) -> None:
    traffic = Traffic()
    for number in range(20):
        traffic.add(tcp_frame(f"10.1.0.{number}", "10.0.0.2", flags="S"))
    with structlog.testing.capture_logs() as logs:
        records = detect(traffic, limit=5)
    assert len(ended(records, "os")) == 5
    (entry,) = logs
    assert (entry["event"], entry["assets"], entry["left_out"]) == ("limit_reached", 5, 15)


def test_one_host_cannot_use_up_the_limit(detect: Detect) -> None:
    traffic = Traffic()
    for number in range(VARIANTS + 10):
        traffic.add(
            tcp_frame(flags="S", options=MSS + ws(number % 14), window=20_000 + number, sport=2000 + number)
        )
    with structlog.testing.capture_logs() as logs:
        records = detect(traffic)
    assert len(ended(records, "os")) == VARIANTS
    assert logs[0]["left_out"] == 10


@pytest.mark.parametrize(
    "pairs", [["format=xml"], ["networks=10.0.0.1/8"], ["limit=0"], ["services=perhaps"]]
)
def test_a_bad_option_is_refused(pairs: list[str]) -> None:
    with pytest.raises(OptionError):
        assets.app.configure(pairs)


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_two_runs_find_the_same(capture: Path, detect: Detect) -> None:
    records = detect(capture)
    assert records == detect(capture)
    assert all(set(FIELDS) <= set(record) for record in records)
    assert assets.app.callbacks == []


def test_the_table_is_for_people(tmp_path: Path) -> None:
    path = tmp_path / "table"
    assets.app.configure([f"path={path}", "format=table"])
    aiomos.run(assets.app, pcap=[DATA / "http.pcap"])
    words = path.read_text()
    assert all(word in words for word in ("192.0.2.2", "nginx 1.22.1", "curl/7.88.1", "Linux"))
