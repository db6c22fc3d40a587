"""Classic BPF, the language of the kernel's socket filters: a small assembler.

The machine has an accumulator, an index register X and 16 words of memory; its jumps lead forward only, and a load
from beyond the frame ends the program with 0 (McCanne and Jacobson, "The BSD Packet Filter"; Linux
``Documentation/networking/filter.rst``). What a program returns is the number of bytes to keep, or, in a fanout group,
the socket that gets the frame, modulo their number.
"""

import ctypes
import enum
import socket
import struct
from typing import NamedTuple

import attrs

__all__ = [
    "MAX_INSTRUCTIONS",
    "Alu",
    "Ancillary",
    "Assembler",
    "Instruction",
    "Jump",
    "Label",
    "Program",
    "ProgramTooLong",
    "Size",
    "attach_fanout",
    "attach_filter",
    "packed",
]

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of the kernel."""

_MAX_JUMP = 255
_WORD = 0xFFFF_FFFF

# Instruction classes, addressing modes and operands of linux/bpf_common.h and linux/filter.h.
_LD, _LDX, _ST, _STX, _ALU, _JMP, _RET, _MISC = range(8)
_IMM, _ABS, _IND, _MEM, _MSH = 0x00, 0x20, 0x40, 0x60, 0xA0
_X = 0x08
_RETURN_A = 0x10
_TAX, _TXA = 0x00, 0x80
_JUMP_ALWAYS = 0x00
_LEN = 0x80

_SOL_PACKET = 263
_PACKET_FANOUT_DATA = 22
_SO_ATTACH_FILTER = 26


class Size(enum.IntEnum):
    """How much of a frame is loaded, in network byte order."""

    WORD = 0x00
    HALF = 0x08
    BYTE = 0x10


class Alu(enum.IntEnum):
    """What is done to the accumulator."""

    ADD = 0x00
    SUBTRACT = 0x10
    MULTIPLY = 0x20
    OR = 0x40
    AND = 0x50
    SHIFT_LEFT = 0x60
    SHIFT_RIGHT = 0x70
    XOR = 0xA0


class Jump(enum.IntEnum):
    """What the accumulator is asked, unsigned; ANY_BIT is whether it has a bit of the operand."""

    EQUAL = 0x10
    GREATER = 0x20
    AT_LEAST = 0x30
    ANY_BIT = 0x40


class Ancillary(enum.IntEnum):
    """What the kernel knows of a frame beside its bytes: SKF_AD_OFF and on."""

    PROTOCOL = 0xFFFFF000  # EtherType; that behind the VLAN tag the kernel has taken out
    PACKET_TYPE = 0xFFFFF004  # PACKET_HOST, ..., PACKET_OUTGOING
    HARDWARE_TYPE = 0xFFFFF01C  # ARPHRD_ number of the interface


class Instruction(NamedTuple):
    """One instruction: struct sock_filter, as ``tcpdump -dd`` prints it."""

    code: int
    jt: int
    jf: int
    k: int


Program = tuple[Instruction, ...]


class ProgramTooLong(ValueError):  # noqa: N818
    """A program has more instructions than the kernel takes."""


@attrs.define(eq=False)
class Label:
    """A place in a program that jumps lead to; bound once, after the last jump to it."""

    at: int = -1


@attrs.define(eq=False)
class _Draft:
    """An instruction whose jumps lead to labels; None leads to the next one.

    A conditional jump reaches 255 instructions. One that leads further is *far* and goes by a jump right behind it.
    """

    code: int
    k: int = 0
    yes: Label | None = None
    no: Label | None = None
    far_yes: bool = False
    far_no: bool = False

    @property
    def size(self) -> int:
        return 1 + self.far_yes + self.far_no

    def is_always(self) -> bool:
        return self.code == _JMP | _JUMP_ALWAYS


class Assembler:
    """Collects instructions into a `Program`, with labels for the targets of jumps.

    A load takes bytes at *at* of the frame, or with ``indexed`` at X + *at*.
    """

    def __init__(self) -> None:
        self._drafts: list[_Draft] = []

    def load(self, size: Size, at: int, *, indexed: bool = False) -> None:
        """Load bytes of the frame into the accumulator."""
        self._emit(_LD | size | (_IND if indexed else _ABS), at)

    def load_ancillary(self, what: Ancillary) -> None:
        """Load what the kernel knows of the frame into the accumulator."""
        self._emit(_LD | _ABS, what)

    def load_constant(self, value: int) -> None:
        """Load a number into the accumulator."""
        self._emit(_LD | _IMM, value)

    def load_memory(self, slot: int) -> None:
        """Load a word of memory into the accumulator."""
        self._emit(_LD | _MEM, slot)

    def load_index(self, value: int) -> None:
        """Load a number into X."""
        self._emit(_LDX | _IMM, value)

    def load_index_length(self) -> None:
        """Load the length of the frame, from where loads count, into X."""
        self._emit(_LDX | _LEN)

    def load_index_memory(self, slot: int) -> None:
        """Load a word of memory into X."""
        self._emit(_LDX | _MEM, slot)

    def load_index_ipv4_header(self, at: int) -> None:
        """Load the length of the IPv4 header at *at*, in bytes, into X."""
        self._emit(_LDX | Size.BYTE | _MSH, at)

    def store(self, slot: int) -> None:
        """Store the accumulator into a word of memory, 0 to 15."""
        self._emit(_ST, slot)

    def store_index(self, slot: int) -> None:
        """Store X into a word of memory, 0 to 15."""
        self._emit(_STX, slot)

    def compute(self, operation: Alu, operand: int | None = None) -> None:
        """Change the accumulator by a number; by X where none is given."""
        self._emit(_ALU | operation | (_X if operand is None else 0), operand or 0)

    def set_index(self) -> None:
        """Copy the accumulator into X."""
        self._emit(_MISC | _TAX)

    def get_index(self) -> None:
        """Copy X into the accumulator."""
        self._emit(_MISC | _TXA)

    def jump(self, label: Label) -> None:
        """Jump."""
        self._drafts.append(_Draft(_JMP | _JUMP_ALWAYS, yes=label))

    def jump_if(
        self, test: Jump, operand: int | None, yes: Label | None = None, no: Label | None = None
    ) -> None:
        """Jump to one of two labels as the accumulator passes the test; None leads to the next instruction.

        The accumulator is compared with a number; with X where none is given.
        """
        source = _X if operand is None else 0
        self._drafts.append(_Draft(_JMP | test | source, (operand or 0) & _WORD, yes, no))

    def result(self, value: int) -> None:
        """End the program with a number."""
        self._emit(_RET, value)

    def result_is_accumulator(self) -> None:
        """End the program with the accumulator."""
        self._emit(_RET | _RETURN_A)

    def bind(self, label: Label) -> None:
        """Make *label* the place of the next instruction."""
        label.at = len(self._drafts)

    def program(self) -> Program:
        """Resolve the labels.

        Raises:
            ProgramTooLong: It has more than `MAX_INSTRUCTIONS`.
            ValueError: A label that a jump leads to is not bound, or not behind it.
        """
        starts = self._starts()
        while self._widen(starts):
            starts = self._starts()
        if starts[-1] > MAX_INSTRUCTIONS:
            raise ProgramTooLong(
                f"a BPF program of {starts[-1]} instructions; the kernel takes {MAX_INSTRUCTIONS}"
            )
        return tuple(
            instruction
            for index, draft in enumerate(self._drafts)
            for instruction in self._resolved(index, draft, starts)
        )

    def _emit(self, code: int, k: int = 0) -> None:
        self._drafts.append(_Draft(code, k & _WORD))

    def _starts(self) -> list[int]:
        """Where each draft lies in the program, and at last its length."""
        starts = [0]
        for draft in self._drafts:
            starts.append(starts[-1] + draft.size)
        return starts

    def _widen(self, starts: list[int]) -> bool:
        """Make far what does not reach; tell whether there was any."""
        widened = False
        for index, draft in enumerate(self._drafts):
            if draft.is_always():
                continue
            for side, label in (("far_yes", draft.yes), ("far_no", draft.no)):
                if label and not getattr(draft, side) and self._way(index, label, starts) > _MAX_JUMP:
                    setattr(draft, side, True)
                    widened = True
        return widened

    def _way(self, index: int, label: Label, starts: list[int]) -> int:
        """Count the instructions from right behind the first of draft *index* to *label*."""
        if label.at <= index:
            raise ValueError(f"instruction {starts[index]} jumps to a label that is not bound behind it")
        return starts[label.at] - starts[index] - 1

    def _resolved(self, index: int, draft: _Draft, starts: list[int]) -> list[Instruction]:
        if draft.is_always() and draft.yes:
            return [Instruction(draft.code, 0, 0, self._way(index, draft.yes, starts))]
        if draft.yes is None and draft.no is None:
            return [Instruction(draft.code, 0, 0, draft.k)]
        ways: list[int] = []
        jumps: list[Instruction] = []
        for label, far in ((draft.yes, draft.far_yes), (draft.no, draft.far_no)):
            way = self._way(index, label, starts) if label else draft.size - 1
            if far:
                ways.append(len(jumps))
                jumps.append(Instruction(_JMP | _JUMP_ALWAYS, 0, 0, way - len(jumps) - 1))
            else:
                ways.append(way)
        return [Instruction(draft.code, ways[0], ways[1], draft.k), *jumps]


def packed(program: Program) -> bytes:
    """Give the program as the kernel takes it: an array of struct sock_filter."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def attach_filter(sock: socket.socket, program: Program) -> None:
    """Let a socket have only what *program* keeps, from now on; what already waits is not looked at.

    Raises:
        OSError: the kernel does not take it.
    """
    _set_program(sock, socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def attach_fanout(sock: socket.socket, program: Program) -> None:
    """Let *program* say which socket of a group gets a frame; the group is one of PACKET_FANOUT_CBPF.

    Raises:
        OSError: the kernel does not take it; the socket is in no such group.
    """
    _set_program(sock, _SOL_PACKET, _PACKET_FANOUT_DATA, program)


def _set_program(sock: socket.socket, level: int, option: int, program: Program) -> None:
    instructions = ctypes.create_string_buffer(packed(program))
    # struct sock_fprog: the count, and a pointer that the kernel follows before setsockopt() returns.
    sock.setsockopt(level, option, struct.pack("@HP", len(program), ctypes.addressof(instructions)))
