"""Segments built from a template, as tshark reads them: every checksum right, every option in its place."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from aiomos.testing.packets import ethernet, ipv4, ipv6
from aiomos.transport.writer import CaptureWriter
from tests.interop import tshark

probe = pytest.importorskip("tests.native._probe_segments", reason="needs the native test probes")
pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif((tshark.version() or (0, 0)) < tshark.OLDEST, reason="needs tshark 4.0 or later"),
]

ENDS = [("192.0.2.1", "198.51.100.2"), ("2001:db8::1", "2001:db8::2")]
STAMPS, SHIFT = (7, 8), 10
FORMS: list[tuple[dict[str, Any], str]] = [
    ({"mss": 1460, "sack_ok": True, "timestamps": STAMPS, "wscale": SHIFT}, "2,4,8,1,3"),
    ({"mss": 1460, "sack_ok": True, "wscale": SHIFT}, "2,1,1,4,1,3"),
    ({"mss": 1460, "timestamps": STAMPS, "wscale": SHIFT}, "2,1,1,8,1,3"),
    ({"mss": 1460, "sack_ok": True, "timestamps": STAMPS}, "2,4,8"),
    (
        {"mss": 1460, "sack_ok": True, "timestamps": STAMPS, "wscale": SHIFT, "cookie": b""},
        "2,4,8,1,3,34,1,1",
    ),
    ({"mss": 1460, "cookie": bytes(8)}, "2,34,1,1"),
    ({"timestamps": STAMPS}, "1,1,8"),
    ({"timestamps": STAMPS, "sack": [(1, 2), (3, 4), (5, 6)]}, "1,1,8,1,1,5"),
    ({"sack": [(1, 2), (3, 4), (5, 6), (7, 8)]}, "1,1,5"),
    ({}, ""),
]
LENGTHS = [0, 1, 3, 1448, 1460, 65_000]


@pytest.mark.parametrize(("src", "dst"), ENDS)
def test_checksums_and_options(src: str, dst: str, tmp_path: Path) -> None:
    packet = ipv6(b"") if ":" in src else ipv4(b"")
    connection = probe.Connection(ethernet(packet, vlan=[5])[:18], src, dst)
    capture = tmp_path / "segments.pcap"
    expected = []
    with CaptureWriter(capture) as writer:
        for options, kinds in FORMS:
            for n in LENGTHS:
                frame = connection.write([bytes(n // 2), b"\xa5" * (n - n // 2)], ecn=2, **options)[0]
                writer.write(len(expected), frame)
                expected.append([kinds, str(n), "1" if ":" not in src else "", "1"])
    preferences = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"]
    fields = ["tcp.option_kind", "tcp.len", "ip.checksum.status", "tcp.checksum.status"]
    command = [str(tshark.TSHARK), "-n", "-r", str(capture), *preferences, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert [line.split("\t") for line in told.splitlines()] == expected
