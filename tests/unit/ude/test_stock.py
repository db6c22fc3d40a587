"""The stock events: what each is raised at, and by what looks like it but for a byte."""

from __future__ import annotations

from typing import Any

import pytest

from aiomos import App, Packet
from aiomos.testing.scenario import Conversation
from aiomos.ude import stock
from tests.events import flags_of, play

EHLO, LOGIN, HELLO = b"EHLO me\r\n", b"USER me\r\n", b"\x16\x03\x01\0\xc8\x01"

SAID = [
    ("HTTP", b"", b"HTTP/1.1 200 OK\r\n", b"HTTP.1.1 200 OK\r\n"),
    *(
        ("HTTP_REQUEST", b"%b /x HTTP/1.1\r\n" % method, b"", b"%bX /x HTTP/1.1\r\n" % method)
        for method in b"GET HEAD POST PUT DELETE OPTIONS PATCH CONNECT TRACE".split()
    ),
    ("HTTP_REQUEST", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"", b"PRI * QTTP/2.0\r\n"),
    ("TLS", HELLO, b"", b"\x17" + HELLO[1:]),
    ("TLS", HELLO, b"", HELLO[:1] + b"\x02" + HELLO[2:]),
    ("TLS", HELLO, b"", HELLO[:5] + b"\x02"),
    ("SSH", b"SSH-2.0-a\r\n", b"", b"SSH2"),
    ("SSH", b"", b"SSH-2.0-a\r\n", b"SSH2"),
    *(("SMTP", hello + b" me\r\n", b"220 here\r\n", b"NOOP\r\n") for hello in b"EHLO HELO LHLO".split()),
    *(
        ("SMTP", hello.lower() + b" me\r\n", b"220 here\r\n", b"noop\r\n")
        for hello in b"EHLO HELO LHLO".split()
    ),
    *(("FTP", login + b" me\r\n", b"220 here\r\n", b"NOOP\r\n") for login in b"USER AUTH FEAT".split()),
    *(
        ("FTP", login.lower() + b" me\r\n", b"220 here\r\n", b"noop\r\n")
        for login in b"USER AUTH FEAT".split()
    ),
    ("POP3", b"", b"+OK ready\r\n", b"+OKready\r\n"),
    ("IMAP", b"", b"* OK ready\r\n", b"* BYE\r\n"),
    ("IMAP", b"", b"* PREAUTH me\r\n", b"*.PREAUTH me\r\n"),
    ("SMB", b"\0\0\0\x80\xffSMBr", b"", b"\0\0\0\x80\xfdSMBr"),
    ("SMB", b"\0\0\0\x80\xfeSMB@", b"", b"\0\0\xffSMB@\0"),
    ("BITTORRENT", b"\x13BitTorrent protocol", b"", b"\x13BitTarrent protocol"),
    ("MQTT", b"\x10\x0c\0\x04MQTT\x04", b"", b"\x11\x0c\0\x04MQTT\x04"),
    ("MQTT", b"\x10\x0c\0\x04MQTT\x04", b"", b"\x10\x0c\0\x04MQIs\x03"),
]


def raised(name: str, client: bytes, server: bytes, *, pieces: bool = False) -> int:
    """How often an event is raised where the ends say this, and then more."""
    app: App[None] = App("watches")
    times: list[int] = []
    app.on(getattr(stock, name))(lambda: times.append(1))
    c = Conversation().handshake()
    for side, data in (("server", server), ("client", client)):
        size = 1 if pieces else max(len(data), 1)
        for at in range(0, len(data), size):
            c.send(side, "PA", data[at : at + size])
    c.client("PA", b" more").server("PA", b" more")
    play(c.close().frames, app)
    return len(times)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize(("name", "client", "server", "other"), SAID)
def test_protocols_are_told_by_their_first_words(
    name: str, client: bytes, server: bytes, other: bytes, *, pieces: bool
) -> None:
    assert raised(name, client, server, pieces=pieces) == 1
    if client and not (server and name not in ("SMTP", "FTP")):
        assert raised(name, other, server, pieces=pieces) == 0
    else:
        assert raised(name, client, other, pieces=pieces) == 0
    assert raised(name, b"?" + client, b"?" + server, pieces=pieces) == 0


@pytest.mark.parametrize(("name", "hello"), [("SMTP", EHLO), ("FTP", LOGIN)])
def test_both_ends_have_to_say_what_belongs_to_a_protocol(name: str, hello: bytes) -> None:
    assert raised(name, hello, b"220 here\r\n") == 1
    assert raised(name, hello, b"221 here\r\n") == 0
    assert raised(name, EHLO if name == "FTP" else LOGIN, b"220 here\r\n") == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SYN", ["S"]),
        ("SYNACK", ["SA"]),
        ("FIN", ["FA", "FA"]),
        ("RST", ["R"]),
        ("ZERO_WINDOW", ["A"]),
        ("REXMIT", ["PA"]),
    ],
)
def test_segments(name: str, expected: list[str]) -> None:
    app: App[None] = App("watches")
    seen: list[str] = []

    def note(pkt: Packet) -> Any:
        seen.append(flags_of(pkt))

    app.on(getattr(stock, name))(note)
    c = Conversation().handshake().client("PA", b"question").server("A", window=0).server("A")
    c.wait(1).client("PA", b"question", seq=1).server("R", seq=100_000, forged=True)
    play(c.close().frames, app)
    assert seen == expected


def test_a_window_of_zero_means_nothing_where_a_connection_begins_or_ends() -> None:
    app: App[None] = App("watches")
    seen: list[str] = []
    app.on(stock.ZERO_WINDOW)(lambda pkt: seen.append(flags_of(pkt)))
    c = Conversation().client("S", window=0).server("SA", window=0).client("A", window=0)
    c.server("FA", window=0).client("R", window=0)
    play(c.frames, app)
    assert seen == ["A"]
