"""The keyed hash against the specification, and against the interpreter's own."""

import json
import os
import subprocess
import sys
from ipaddress import ip_address

import pytest

from aiomos.engine.engine import Engine
from aiomos.settings import Settings
from aiomos.testing.packets import tcp_frame

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

MASK = (1 << 64) - 1


def rotate(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & MASK


def siphash(data: bytes, key: bytes, compressions: int, finalizations: int) -> int:
    """SipHash-c-d as its paper defines it."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(n: int) -> None:
        for _ in range(n):
            for a, b, turn_b, turn_a in ((0, 1, 13, 32), (2, 3, 16, 0), (0, 3, 21, 0), (2, 1, 17, 32)):
                v[a] = (v[a] + v[b]) & MASK
                v[b] = rotate(v[b], turn_b) ^ v[a]
                v[a] = rotate(v[a], turn_a)

    last = data[len(data) // 8 * 8 :].ljust(7, b"\0") + bytes([len(data) % 256])
    whole = data[: len(data) // 8 * 8] + last
    for at in range(0, len(whole), 8):
        word = int.from_bytes(whole[at : at + 8], "little")
        v[3] ^= word
        rounds(compressions)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(finalizations)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_reference_gives_the_vector_of_the_paper() -> None:
    """Appendix A of the SipHash paper: key 00..0f, message 00..0e."""
    assert siphash(bytes(range(15)), bytes(range(16)), 2, 4) == 0xA129CA6149BE45E5


@pytest.mark.parametrize("count", range(9))
@pytest.mark.parametrize("key", [bytes(16), bytes(range(16)), b"\xff" * 16])
def test_hash_equals_the_reference(count: int, key: bytes) -> None:
    words = [(0x9E3779B97F4A7C15 * (i + 1)) & MASK for i in range(count)]
    data = b"".join(word.to_bytes(8, "little") for word in words)
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    assert probe.siphash(k0, k1, words) == siphash(data, key, 1, 3)


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this interpreter hashes another way")
def test_hash_equals_the_interpreters() -> None:
    """Without randomisation the interpreter's key is zero."""
    code = "print([hash(bytes(range(8 * n))) for n in range(1, 6)])"
    unkeyed = os.environ | {"PYTHONHASHSEED": "0"}
    run = subprocess.run([sys.executable, "-c", code], env=unkeyed, capture_output=True, check=True)
    for count, theirs in enumerate(json.loads(run.stdout), start=1):
        words = [int.from_bytes(bytes(range(8 * i, 8 * i + 8)), "little") for i in range(count)]
        assert probe.siphash(0, 0, words) == theirs & MASK


@pytest.mark.parametrize("tunnel", [0, 1, 0x0123456789ABCDEF])
@pytest.mark.parametrize(
    "ends", [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:1::2")], ids=["IPv4", "IPv6"]
)
@pytest.mark.parametrize("vlan", [None, 5])
def test_flows_are_hashed_by_both_ends_their_vlan_and_their_tunnel(
    ends: tuple[str, str], tunnel: int, vlan: int | None
) -> None:
    """The same for both directions."""
    key = bytes(range(16))
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    low, high = (ip_address(end) for end in ends)
    if low.version == 4:
        words = [int(low) << 32 | int(high)]
    else:
        words = [int(end) >> bits & MASK for end in (low, high) for bits in (64, 0)]
    words += [tunnel] * (tunnel != 0)
    tag = 0xFFFF if vlan is None else vlan
    last = (1234 << 40 | 80 << 24 | tag << 8 | low.version).to_bytes(7, "little")
    expected = siphash(b"".join(word.to_bytes(8, "little") for word in words) + last, key, 1, 3) & 0xFFFFFFFF
    there = tcp_frame(*ends, 1234, 80, vlan=vlan)
    back = tcp_frame(*reversed(ends), 80, 1234, vlan=vlan)
    assert probe.flow_hash(k0, k1, there, tunnel) == probe.flow_hash(k0, k1, back, tunnel) == expected
    untagged = siphash(
        b"".join(word.to_bytes(8, "little") for word in words)
        + (1234 << 40 | 80 << 24 | low.version).to_bytes(7, "little"),
        key,
        1,
        3,
    )
    assert probe.flow_hash(k0, k1, there, tunnel, vlan_mask=0) == untagged & 0xFFFFFFFF


@pytest.mark.parametrize("length", [0, 15, 17])
def test_keys_are_16_bytes(length: int) -> None:
    with pytest.raises(ValueError, match=f"the key is 16 bytes, not {length}"):
        Engine(Settings(), bytes(length), lambda *_: None)
