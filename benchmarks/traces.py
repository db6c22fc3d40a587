"""Make the captures that the benchmarks read: ``traces.py many|bulk|mix ...``.

Frames are Ethernet, IPv4 and TCP with valid checksums, in a little-endian microsecond pcap file. The same
arguments always give the same bytes.

many  A test of scale: the handshakes of all flows one after another, then rounds in which every flow
      sends one segment each way, in random order. No flow ends, so a monitor must keep them all.
bulk  A test of reassembly: some long transfers from server to client, interleaved in short bursts, the
      client acknowledging every second segment; a few segments are swapped, a few are sent twice.
mix   Real traffic: captures played at the same time in short bursts, again and again with shifted
      addresses, until there are frames enough.
"""

import argparse
import random
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import attrs
import dpkt

FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
RECORD = struct.Struct("<IIII")  # seconds, microseconds, captured length, length
HEADERS = struct.Struct(">6s6sH BBHHHBBH II HHIIHHHH")  # Ethernet, IPv4, TCP
MSS_OPTION = struct.pack(">BBH", 2, 4, 1460)
ADDRESS = struct.Struct(">HH")
MACS = (b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2")

EPOCH_US = 1_700_000_000_000_000
FIN, SYN, PSH, ACK = 1, 2, 8, 16
WINDOW = 0xFFFF
TCP = 6
IPV4 = 0x0800
BLOCKS = 256  # different payloads
BURST = 16  # most frames of one transfer in a row


class PcapWriter:
    """Writes frames at a steady pace.

    Args:
        file: Where to.
        interval_us: Microseconds from one frame to the next.
    """

    def __init__(self, file: BinaryIO, interval_us: int) -> None:
        self.frames = 0
        self._write = file.write
        self._interval_us = interval_us
        self._write(FILE_HEADER)

    def frame(self, *parts: bytes) -> None:
        """Append the frame that the parts make up."""
        seconds, microseconds = divmod(EPOCH_US + self.frames * self._interval_us, 1_000_000)
        length = sum(map(len, parts))
        self._write(RECORD.pack(seconds, microseconds, length, length))
        for part in parts:
            self._write(part)
        self.frames += 1


def checksum(total: int) -> int:
    """Fold a sum of 16-bit words into an internet checksum (RFC 1071)."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def sum_words(data: bytes) -> int:
    """Add up the 16-bit words of some bytes."""
    padded = data + b"\0" * (len(data) % 2)
    return sum(struct.unpack(f">{len(padded) // 2}H", padded))


def sum_halves(first: int, second: int) -> int:
    """Add up the 16-bit halves of two 32-bit numbers."""
    return (first >> 16) + (first & 0xFFFF) + (second >> 16) + (second & 0xFFFF)


@attrs.frozen
class Payload:
    """What follows a TCP header's fixed part, and the sum of its words."""

    data: bytes = b""
    words: int = 0

    @classmethod
    def blocks(cls, size: int, rng: random.Random) -> "list[Payload]":
        """Make some random payloads of one size."""
        return [cls(data, sum_words(data)) for data in (rng.randbytes(size) for _ in range(BLOCKS))]


NO_PAYLOAD = Payload()
SYN_OPTIONS = Payload(MSS_OPTION, sum_words(MSS_OPTION))


@attrs.define
class Half:
    """One direction of a flow.

    Attributes:
        src: Address it sends from.
        sport: Port it sends from.
        seq: Sequence number of the next byte it sends.
        mac: Its link address.
    """

    src: int
    sport: int
    seq: int
    mac: bytes

    def segment(
        self, peer: "Half", flags: int, carried: Payload = NO_PAYLOAD, *, ack: int, seq: int
    ) -> bytes:
        """Build the headers, from Ethernet to TCP, of a segment to the peer."""
        tcp_length = 20 + len(carried.data)
        offset_and_flags = (24 if flags & SYN else 20) << 10 | flags
        addresses = sum_halves(self.src, peer.src)
        ip_sum = 0x4500 + 20 + tcp_length + 0x4000 + (64 << 8 | TCP) + addresses
        tcp_sum = (
            addresses + TCP + tcp_length + self.sport + peer.sport + sum_halves(seq, ack)
            + offset_and_flags + WINDOW + carried.words
        )  # fmt: skip
        return HEADERS.pack(
            peer.mac, self.mac, IPV4,
            0x45, 0, 20 + tcp_length, 0, 0x4000, 64, TCP, checksum(ip_sum), self.src, peer.src,
            self.sport, peer.sport, seq, ack, offset_and_flags, WINDOW, checksum(tcp_sum), 0,
        )  # fmt: skip


@attrs.define
class Flow:
    """Both halves of a connection, and the frames it is made of."""

    client: Half
    server: Half

    @classmethod
    def numbered(cls, index: int, rng: random.Random) -> "Flow":
        """Make the flow of a number: client address and port are its own."""
        return cls(
            Half(0x0A000001 + index % 50_000, 1024 + index // 50_000, rng.getrandbits(32), MACS[0]),
            Half(0xAC100001 + rng.randrange(1024), rng.choice((80, 443)), rng.getrandbits(32), MACS[1]),
        )

    def open(self, out: PcapWriter) -> None:
        """Write the three-way handshake."""
        client, server = self.client, self.server
        client_iss, client.seq = client.seq, after(client.seq, 1)
        server_iss, server.seq = server.seq, after(server.seq, 1)
        out.frame(client.segment(server, SYN, SYN_OPTIONS, ack=0, seq=client_iss), MSS_OPTION)
        out.frame(server.segment(client, SYN | ACK, SYN_OPTIONS, ack=client.seq, seq=server_iss), MSS_OPTION)
        self.acknowledge(out, server.seq)

    def send(self, out: PcapWriter, sender: Half, payload: Payload) -> None:
        """Write the sender's next segment."""
        peer = self.server if sender is self.client else self.client
        out.frame(sender.segment(peer, PSH | ACK, payload, ack=peer.seq, seq=sender.seq), payload.data)
        sender.seq = after(sender.seq, len(payload.data))

    def acknowledge(self, out: PcapWriter, ack: int) -> None:
        """Write a bare acknowledgement by the client."""
        out.frame(self.client.segment(self.server, ACK, ack=ack, seq=self.client.seq))

    def close(self, out: PcapWriter) -> None:
        """Write both FINs and the last acknowledgement, the server first."""
        client, server = self.client, self.server
        fin, server.seq = server.seq, after(server.seq, 1)
        out.frame(server.segment(client, FIN | ACK, ack=client.seq, seq=fin))
        fin, client.seq = client.seq, after(client.seq, 1)
        out.frame(client.segment(server, FIN | ACK, ack=server.seq, seq=fin))
        out.frame(server.segment(client, ACK, ack=client.seq, seq=server.seq))


def after(seq: int, count: int) -> int:
    """Advance a sequence number."""
    return (seq + count) & 0xFFFFFFFF


def many(out: PcapWriter, *, flows: int, rounds: int, size: int = 100, seed: int = 1) -> None:
    """Open all flows, then send one segment each way in every flow and round, in random order."""
    rng = random.Random(seed)
    payloads = Payload.blocks(size, rng)
    opened = [Flow.numbered(index, rng) for index in range(flows)]
    for flow in opened:
        flow.open(out)
    order = list(range(2 * flows))  # twice a flow's number, plus one for its server
    for _ in range(rounds):
        rng.shuffle(order)
        for place in order:
            flow = opened[place >> 1]
            flow.send(out, flow.server if place & 1 else flow.client, payloads[place % BLOCKS])


def bulk(out: PcapWriter, *, payload: int, flows: int = 200, size: int = 1460, seed: int = 1) -> None:
    """Send long transfers side by side, each from handshake to FIN."""
    rng = random.Random(seed)
    payloads = Payload.blocks(size, rng)
    opened = [Flow.numbered(index, rng) for index in range(flows)]
    for flow in opened:
        flow.open(out)
    segments = max(1, payload // size // flows)
    playing = [transfer(flow, out, sending_order(segments, rng), payloads) for flow in opened]
    while playing:
        index = rng.randrange(len(playing))
        for _ in range(rng.randint(1, BURST)):
            if next(playing[index], None) is None:
                playing[index] = playing[-1]
                playing.pop()
                break


def sending_order(count: int, rng: random.Random, swaps: float = 0.005, repeats: float = 0.002) -> list[int]:
    """List segment numbers as they are sent: some swapped with their successor, some sent again later."""
    order = list(range(count))
    for index in range(0, count - 1, 2):
        if rng.random() < 2 * swaps:
            order[index], order[index + 1] = order[index + 1], order[index]
    for index in sorted((i for i in range(count) if rng.random() < repeats), reverse=True):
        order.insert(index + rng.randint(2, 8), order[index])
    return order


def transfer(flow: Flow, out: PcapWriter, order: list[int], payloads: list[Payload]) -> Iterator[bool]:
    """Play a transfer; each step writes one segment and, after every second, its acknowledgement."""
    base, size = flow.server.seq, len(payloads[0].data)
    early: set[int] = set()
    in_order = 0
    for sent, number in enumerate(order, 1):
        flow.server.seq = after(base, number * size)
        flow.send(out, flow.server, payloads[number % BLOCKS])
        if number >= in_order:
            early.add(number)
        while in_order in early:
            early.remove(in_order)
            in_order += 1
        if sent % 2 == 0:
            flow.acknowledge(out, after(base, in_order * size))
        yield True
    flow.server.seq = after(base, in_order * size)
    flow.close(out)


def mix(out: PcapWriter, *, captures: Path, frames: int, at_once: int = 64, seed: int = 1) -> None:
    """Play real captures side by side until there are at least so many frames."""
    recordings = [recording for path in capture_files(captures) if (recording := read_ipv4_frames(path))]
    if not recordings:
        raise SystemExit(f"{captures}: no capture with IPv4 on Ethernet here")
    rng = random.Random(seed)
    copy = 0
    while out.frames < frames:
        waiting = [iter(recording) for recording in recordings]
        rng.shuffle(waiting)
        playing, waiting = waiting[:at_once], waiting[at_once:]
        while playing:
            index = rng.randrange(len(playing))
            for _ in range(rng.randint(1, 8)):
                frame = next(playing[index], None)
                if frame is None:
                    playing[index : index + 1] = [waiting.pop()] if waiting else []
                    break
                out.frame(shift_addresses(frame, copy))
        copy += 1


def capture_files(folder: Path) -> list[Path]:
    """List the capture files below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix in {".pcap", ".pcapng", ".cap"})


def read_ipv4_frames(path: Path) -> list[bytes]:
    """Read a capture's Ethernet frames that carry IPv4; none of a file that is broken or something else."""
    try:
        with path.open("rb") as file:
            reader = dpkt.pcap.UniversalReader(file)
            if reader.datalink() != dpkt.pcap.DLT_EN10MB:
                return []
            return [bytes(data) for _, data in reader if len(data) >= 34 and data[12:14] == b"\x08\0"]
    except (ValueError, dpkt.Error, struct.error):
        return []


def shift_addresses(frame: bytes, shift: int) -> bytes:
    """Add to the middle two octets of both IPv4 addresses, and keep the checksums as right as they were."""
    if shift == 0:
        return frame
    data = bytearray(frame)
    change = 0
    for place in (26, 30):
        high, low = ADDRESS.unpack_from(data, place)
        middle = (((high & 0xFF) << 8 | low >> 8) + shift) & 0xFFFF
        moved = (high & 0xFF00 | middle >> 8, (middle & 0xFF) << 8 | low & 0xFF)
        change += sum(moved) - high - low
        ADDRESS.pack_into(data, place, *moved)
    adjust_checksum(data, 24, change)
    if data[23] == TCP:
        adjust_checksum(data, 14 + (data[14] & 15) * 4 + 16, change)
    return bytes(data)


def adjust_checksum(frame: bytearray, place: int, change: int) -> None:
    """Carry a change of the words a checksum covers over to it (RFC 1624)."""
    if place + 2 <= len(frame):
        before = int.from_bytes(frame[place : place + 2])
        frame[place : place + 2] = (~(((~before & 0xFFFF) + change) % 0xFFFF) & 0xFFFF).to_bytes(2)


def count_frames(path: Path) -> int:
    """Count the frames of a little-endian pcap file."""
    return sum(1 for _ in record_lengths(path))


def first_frames(path: Path, count: int, target: Path) -> None:
    """Write a capture with the first frames of a little-endian pcap file."""
    size = len(FILE_HEADER)
    for _, length in zip(range(count), record_lengths(path), strict=False):
        size += RECORD.size + length
    with path.open("rb") as file:
        target.write_bytes(file.read(size))


def record_lengths(path: Path) -> Iterator[int]:
    """Yield the captured length of each frame of a little-endian pcap file."""
    with path.open("rb", buffering=1 << 20) as file:
        if file.read(len(FILE_HEADER))[:4] != FILE_HEADER[:4]:
            raise SystemExit(f"{path}: not a little-endian pcap file")
        while len(header := file.read(RECORD.size)) == RECORD.size:
            length = RECORD.unpack(header)[2]
            file.seek(length, 1)
            yield length


def write(path: Path, kind: str, *, interval_us: int = 1, **options: Any) -> None:
    """Write a trace of a kind; a file that is there is whole.

    Args:
        path: The file.
        kind: ``many``, ``bulk`` or ``mix``.
        interval_us: Microseconds between frames.
        options: What that function takes.
    """
    part = path.with_suffix(".part")
    with part.open("wb", buffering=1 << 20) as file:
        KINDS[kind](PcapWriter(file, interval_us), **options)
    part.replace(path)


KINDS: dict[str, Callable[..., None]] = {"many": many, "bulk": bulk, "mix": mix}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one trace, as asked on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    options = {kind: kinds.add_parser(kind) for kind in KINDS}
    for sub in options.values():
        sub.add_argument("path", type=Path, help="capture file to write")
        sub.add_argument("--seed", type=int, default=1)
        sub.add_argument("--interval-us", type=int, default=1, help="microseconds between frames (1)")
    options["many"].add_argument("--flows", type=int, default=1_000_000)
    options["many"].add_argument("--rounds", type=int, default=1)
    options["many"].add_argument("--size", type=int, default=100, help="payload bytes of a segment (100)")
    options["bulk"].add_argument("--payload", type=int, default=10**9, help="bytes in all (1,000,000,000)")
    options["bulk"].add_argument("--flows", type=int, default=200)
    options["bulk"].add_argument("--size", type=int, default=1460, help="payload bytes of a segment (1460)")
    options["mix"].add_argument("--captures", type=Path, required=True, help="folder of real captures")
    options["mix"].add_argument("--frames", type=int, default=1_500_000)
    write(**vars(parser.parse_args(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
