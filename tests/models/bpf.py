"""The machine of classic BPF in plain Python, as Linux runs it on a frame."""

import struct

import attrs

from aiomos.transport.bpf import Ancillary, Program

WORD = 0xFFFFFFFF
VLANS = (0x8100, 0x88A8)


@attrs.frozen
class Buffer:
    """A frame as a socket filter has it: the bytes from where loads count, and what is known besides."""

    data: bytes
    protocol: int
    packet_type: int = 0
    hardware_type: int = 1

    def ancillary(self, at: int) -> int:
        return {
            Ancillary.PROTOCOL: self.protocol,
            Ancillary.PACKET_TYPE: self.packet_type,
            Ancillary.HARDWARE_TYPE: self.hardware_type,
        }[Ancillary(at)]


def without_tag(frame: bytes) -> bytes:
    """Take the outermost VLAN tag out, as the kernel does with what it receives."""
    if int.from_bytes(frame[12:14]) in VLANS:
        return frame[:12] + frame[16:]
    return frame


def received_by_fanout(frame: bytes) -> Buffer:
    """Make what the program of a fanout group sees of an Ethernet frame that came in."""
    bare = without_tag(frame)
    return Buffer(bare[14:], int.from_bytes(bare[12:14]))


def sent_by_fanout(frame: bytes) -> Buffer:
    """Make what it sees of one that goes out."""
    bare = without_tag(frame)
    return Buffer(bare, int.from_bytes(bare[12:14]), packet_type=4)


def received_by_socket(frame: bytes) -> Buffer:
    """Make what the filter of a socket sees of an Ethernet frame, either way."""
    bare = without_tag(frame)
    return Buffer(bare, int.from_bytes(bare[12:14]))


def run(program: Program, frame: Buffer) -> int:
    """Run a program to its end; a load from beyond the frame ends it with 0."""
    a = x = at = 0
    memory: dict[int, int] = {}
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind, mode = code & 7, code & 0xE0
        if kind == 0:
            if mode == 0:
                a = k
            elif mode == 0x60:
                a = memory[k]
            elif mode == 0x20 and k >= 0xFFFFF000:
                a = frame.ancillary(k)
            else:
                loaded = _load(frame.data, code & 0x18, k if mode == 0x20 else k + x)
                if loaded is None:
                    return 0
                a = loaded
        elif kind == 1:
            if mode == 0xA0:
                loaded = _load(frame.data, 0x10, k)
                if loaded is None:
                    return 0
                x = 4 * (loaded & 0x0F)
            elif mode == 0x80:
                x = len(frame.data)
            else:
                x = k if mode == 0 else memory[k]
        elif kind == 2:
            memory[k] = a
        elif kind == 3:
            memory[k] = x
        elif kind == 4:
            a = _compute(code & 0xF0, a, x if code & 8 else k)
        elif kind == 5:
            at += k if code & 0xF0 == 0 else (jt if _holds(code & 0xF0, a, x if code & 8 else k) else jf)
        elif kind == 6:
            return a if code & 0x18 == 0x10 else k
        elif code & 0x80:
            a = x
        else:
            x = a


def _load(data: bytes, size: int, at: int) -> int | None:
    form, length = {0x00: ("!I", 4), 0x08: ("!H", 2), 0x10: ("!B", 1)}[size]
    if at + length > len(data):
        return None
    number: int = struct.unpack_from(form, data, at)[0]
    return number


def _compute(operation: int, a: int, operand: int) -> int:
    return {
        0x00: a + operand,
        0x10: a - operand,
        0x20: a * operand,
        0x40: a | operand,
        0x50: a & operand,
        0x60: a << (operand & 31),
        0x70: a >> (operand & 31),
        0xA0: a ^ operand,
    }[operation] & WORD


def _holds(test: int, a: int, k: int) -> bool:
    return {0x10: a == k, 0x20: a > k, 0x30: a >= k, 0x40: bool(a & k)}[test]
