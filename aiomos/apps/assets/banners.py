"""What programs say of themselves in the first bytes of a connection."""

import re
import struct
import tomllib
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import attrs
import dpkt  # type: ignore[import-untyped]

from aiomos.apps.assets.inventory import Finding

LOOK = 4_096
"""Bytes of a half in which its banner must end."""

VERSIONS = {0x0300: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
SERVER_NAME, SUPPORTED_VERSIONS = 0, 43
CLIENT_HELLO, SERVER_HELLO = 1, 2
ALERT, HANDSHAKE = b"\x15", b"\x16"
RECORD_HEADER, ALERT_RECORD = 5, 7
MALFORMED = (dpkt.UnpackError, dpkt.ssl.SSL3Exception, struct.error, AttributeError)


def _compiled(pattern: str | None) -> re.Pattern[bytes] | None:
    return None if pattern is None else re.compile(pattern.encode("latin-1"))


@attrs.frozen(kw_only=True)
class Banner:
    """One row of ``banners.toml``, which says what its fields mean."""

    name: str
    pattern: re.Pattern[bytes] = attrs.field(converter=_compiled)
    peer: re.Pattern[bytes] | None = attrs.field(default=None, converter=_compiled)
    product: str | None = None

    def find(self, data: bytes, peer_data: bytes) -> Finding | None:
        """What the bytes of one end tell, given those of the other."""
        seen = self.pattern.match(data)
        if seen is None or (self.peer is not None and self.peer.match(peer_data) is None):
            return None
        said = {name: text(value) for name, value in seen.groupdict().items() if value}
        product = said.get("product", self.product)
        return Finding(self.name, product, said.get("version"), said.get("detail"))


class Banners:
    """All that can be recognised, by the side that says it."""

    def __init__(self) -> None:
        tables = tomllib.loads((files(__package__) / "banners.toml").read_text())
        self._sides = {
            "server": [Banner(**row) for row in tables["service"]],
            "client": [Banner(**row) for row in tables["client"]],
        }

    def find(self, side: str, data: bytes, peer_data: bytes) -> Finding | None:
        """Recognise the end on a side by its first bytes; None while, or if, they tell nothing."""
        if side == "server" and data[:1] in (HANDSHAKE, ALERT):
            return tls_server(data, peer_data)
        rows: Iterable[Banner] = self._sides[side]
        return next(filter(None, (row.find(data, peer_data) for row in rows)), None)


def text(value: bytes) -> str:
    """Write bytes from the wire so that a terminal can show them."""
    decoded = value.decode("utf-8", "backslashreplace").strip()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in decoded)


# --- TLS ------------------------------------------------------------------------------------------


def tls_server(data: bytes, peer_data: bytes) -> Finding | None:
    """Read a ServerHello: which version was agreed upon; the name that the client asked for is in its own hello."""
    # A server may warn first that it does not know the name (RFC 6066 §3).
    hello = _hello(data[ALERT_RECORD:] if data[:1] == ALERT else data, SERVER_HELLO)
    if hello is None:
        return None
    agreed = _extensions(hello).get(SUPPORTED_VERSIONS, b"")
    number = int.from_bytes(agreed, "big") if agreed else hello.version
    return Finding(name="tls", version=VERSIONS.get(number, f"0x{number:04x}"), detail=server_name(peer_data))


def server_name(data: bytes) -> str | None:
    """Read the server name of a ClientHello (RFC 6066 §3)."""
    hello = _hello(data, CLIENT_HELLO)
    listed = _extensions(hello).get(SERVER_NAME, b"") if hello is not None else b""
    # Length of the list, one entry of type host_name with its length; more entries are not allowed.
    return text(listed[5:]) or None if listed[2:3] == b"\0" else None


def _hello(data: bytes, kind: int) -> Any:
    """Parse the hello at the start of a half; None if there is none, or not all of it.

    The record around it is not looked at: it may hold more, such as a long certificate.
    """
    if data[:1] != HANDSHAKE:
        return None
    try:
        message = dpkt.ssl.TLSHandshake(data[RECORD_HEADER:])
    except MALFORMED:
        return None
    return message.data if message.type == kind else None


def _extensions(hello: Any) -> dict[int, bytes]:
    return dict(getattr(hello, "extensions", ()))
