"""One capture file: both formats, any byte order, any clock, and any damage."""

import contextlib
import random
import struct
from collections.abc import Callable
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from aiomos.errors import CaptureError
from aiomos.transport.interfaces import Interface
from aiomos.transport.pcap import MIN_BLOCK_SIZE, CaptureReader
from tests.unit.transport.formats import (
    CUSTOM,
    INTERFACE,
    MICROSECOND_MAGIC,
    MODIFIED_MAGIC,
    NAMES,
    NANOSECOND_MAGIC,
    PACKET,
    SECTION,
    SIMPLE_PACKET,
    START,
    STATISTICS,
    Memory,
    Sample,
    block,
    boundaries,
    damaged,
    enhanced_packet,
    interface,
    obsolete_packet,
    option,
    pcap,
    pcap_header,
    pcap_record,
    pcapng,
    read,
    read_broken,
    resolution,
    rows,
    samples,
    section,
    simple_packet,
)

Build = Callable[..., bytes]
BOTH_ORDERS = pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
SECOND = 1_000_000_000
LATEST = (1 << 62) - 1


def reader(data: bytes, *, block_size: int = MIN_BLOCK_SIZE, seed: int | None = None) -> CaptureReader:
    return CaptureReader(Memory(data, seed=seed), [], block_size)


# --- pcap -----------------------------------------------------------------------------------------


@BOTH_ORDERS
@pytest.mark.parametrize(
    ("magic", "unit_ns"), [(MICROSECOND_MAGIC, 1000), (NANOSECOND_MAGIC, 1), (MODIFIED_MAGIC, 1000)]
)
def test_pcap_of_any_magic_and_byte_order(order: str, magic: int, unit_ns: int) -> None:
    frames = samples(200)
    assert read(pcap(frames, order, magic=magic)) == rows(frames, unit_ns=unit_ns)


def test_pcap_tells_its_interface() -> None:
    capture = reader(pcap_header(linktype=113, snaplen=96))
    assert capture.interfaces == [Interface("memory", "", 113, 96)]
    assert (capture.path, capture.first_time, capture.frames_read) == ("memory", None, 0)


def test_length_of_frame_check_sequence_is_no_part_of_the_linktype() -> None:
    assert reader(pcap_header(linktype=0x5400_0001)).interfaces[0].linktype == 1


@pytest.mark.parametrize(
    "header",
    [pcap_header(version=(3, 4)), pcap_header(linktype=0x10000), b"\x0a\x0d\x0d", b"", b"GET / HTTP/1.1"],
)
def test_what_is_no_capture_is_refused_when_opened(header: bytes) -> None:
    with pytest.raises(CaptureError) as caught:
        reader(header)
    assert (caught.value.path, caught.value.offset, caught.value.frames) == ("memory", 0, 0)


def test_wire_length_is_at_least_the_captured_length() -> None:
    assert read(pcap([Sample(START, 0, b"x" * 60, 0)]))[0][3] == 60


@pytest.mark.parametrize("minor", [0, 2, 3])
def test_lengths_in_either_order_before_version_2_4(minor: int) -> None:
    frames = samples(3)
    swapped = b"".join(
        struct.pack("<IIII", frame.seconds, frame.fraction, frame.wirelen, len(frame.data)) + frame.data
        for frame in frames
    )
    assert read(pcap_header(version=(2, minor)) + swapped) == rows(frames)


def test_largest_pcap_time_is_exact() -> None:
    frame = Sample(0xFFFF_FFFF, 999_999, b"x", 1)
    assert read(pcap([frame]))[0][0] == 0xFFFF_FFFF * SECOND + 999_999 * 1000


@pytest.mark.parametrize(
    ("snaplen", "caplen", "allowed"),
    [
        (65535, 256 * 1024, True),
        (65535, 256 * 1024 + 1, False),
        (0, 256 * 1024, True),
        (300_000, 300_000, True),
        (300_000, 300_001, False),
        (0xFFFF_FFFF, 64 * 1024 * 1024 + 1, False),
    ],
)
def test_captured_length_is_bounded(snaplen: int, caplen: int, allowed: bool) -> None:
    good = Sample(START, 0, b"good", 4)
    data = pcap_header(snaplen=snaplen) + pcap_record(good)
    offset = len(data)
    data += struct.pack("<IIII", START, 0, caplen, caplen) + bytes(caplen if allowed else 100)
    got, error = read_broken(data)
    if allowed:
        assert error is None
        assert [len(row[1]) for row in got] == [4, caplen]
    else:
        assert error is not None
        assert (error.offset, error.frames) == (offset, 1)
        assert got == rows([good])


def test_frames_earlier_than_the_one_before_are_passed_on_and_counted() -> None:
    frames = [Sample(START + second, 0, b"x", 1) for second in (5, 3, 3, 4, 1, 9)]
    capture = reader(pcap(frames))
    assert list(capture) == rows(frames)
    assert capture.unordered == 2
    assert capture.first_time == (START + 5) * SECOND


# --- pcapng ---------------------------------------------------------------------------------------


@BOTH_ORDERS
def test_pcapng_of_any_byte_order(order: str) -> None:
    frames = samples(200)
    assert read(pcapng(frames, order)) == rows(frames)


def expected_time(units: int, tsresol: int, tsoffset: int = 0) -> int:
    unit = Fraction(1, 2 ** (tsresol & 0x7F)) if tsresol & 0x80 else Fraction(1, 10**tsresol)
    time_ns = min(int(units * unit * SECOND), LATEST)
    return max(-LATEST, min(LATEST, time_ns + max(-LATEST, min(LATEST, tsoffset * SECOND))))


@BOTH_ORDERS
def test_every_resolution_of_time_stamps(order: str) -> None:
    generator = random.Random(1)
    numbers = [0, 1, 999, START * 1_000_000, (1 << 32) - 1, (1 << 63) + 12345, (1 << 64) - 1]
    numbers += [generator.getrandbits(generator.randint(1, 64)) for _ in range(10)]
    for tsresol in range(256):
        data = section(order) + interface(order, options=resolution(tsresol, order))
        data += b"".join(enhanced_packet(units, b"x", order) for units in numbers)
        assert [row[0] for row in read(data)] == [expected_time(units, tsresol) for units in numbers], tsresol


@BOTH_ORDERS
@pytest.mark.parametrize("length", range(9))
def test_what_follows_an_option_of_any_length_is_read(order: str, length: int) -> None:
    """Values are padded to 32 bits (section 3.5); the name of an interface may have any length."""
    name, names = b"eth0longer"[:length], 2
    named = option(names, name, order)
    every = (resolution(3, order), option(14, struct.pack(order + "q", 3600), order))
    for options in (named + every[0] + every[1], every[0] + named + every[1], b"".join(every) + named):
        data = section(order) + interface(order, options=options) + enhanced_packet(7, b"x", order)
        capture = reader(data)
        assert [row[0] for row in capture] == [expected_time(7, 3, 3600)]
        assert [found.name for found in capture.interfaces] == [name.decode()]


@pytest.mark.parametrize(
    ("tsresol", "tsoffset", "told"),
    [
        (6, 0, False),
        (10, 0, False),
        (11, 0, True),
        (20, 0, True),
        (0x7F, 0, True),
        (20, START, False),
        (0x80 | 35, 0, False),
        (0x80 | 36, 0, True),
        (0xFF, 0, True),
    ],
)
def test_an_interface_whose_time_stamps_reach_no_capture_is_told(
    tsresol: int, tsoffset: int, *, told: bool
) -> None:
    """2**64 of its units end before 1980, so its times are not known."""
    options = resolution(tsresol) + option(14, struct.pack("<q", tsoffset))
    with capture_logs() as logs:
        list(read(section() + interface(options=options) + enhanced_packet(1, b"x")))
    assert [(line["event"], line["if_tsresol"]) for line in logs] == [("times_unknown", tsresol)] * told


@pytest.mark.parametrize("tsoffset", [3600, -3600, START, -START, (1 << 63) - 1, -(1 << 63)])
@pytest.mark.parametrize("units", [0, START * 1_000_000, (1 << 64) - 1])
def test_time_offset_never_leaves_the_bounds_of_a_time(tsoffset: int, units: int) -> None:
    options = option(14, struct.pack("<q", tsoffset))
    data = section() + interface(options=options) + enhanced_packet(units, b"x")
    assert read(data)[0][0] == expected_time(units, 6, tsoffset)


def test_every_kind_of_packet_block_and_of_others() -> None:
    data = b"".join(
        [
            section(options=option(4, b"an application")),
            interface(snaplen=4, options=option(2, b"eth0") + resolution(9) + option(0, b"")),
            block(NAMES, b"names of hosts"),
            simple_packet(b"before any time"),
            enhanced_packet(1000, b"enhanced", wirelen=1500),
            block(STATISTICS, bytes(8)),
            obsolete_packet(2000, b"old"),
            block(CUSTOM, bytes(20_000)),
            simple_packet(b"sim", wirelen=3),
            simple_packet(b"simple, cut", wirelen=900),
            interface(linktype=101, options=option(2, b"tun\xff\0")),
            enhanced_packet(3, b"tunnel", index=1),
            obsolete_packet(4, b"tunnel, old", index=1),
        ]
    )
    capture = reader(data)
    assert list(capture) == [
        (0, b"befo", 1, 15),
        (1000, b"enhanced", 1, 1500),
        (2000, b"old", 1, 3),
        (2000, b"sim", 1, 3),
        (2000, b"simp", 1, 900),
        (3000, b"tunnel", 101, 6),
        (4000, b"tunnel, old", 101, 11),
    ]
    assert capture.interfaces == [
        Interface("memory", "eth0", 1, 4),
        Interface("memory", "tun\N{REPLACEMENT CHARACTER}", 101, 0),
    ]


def test_sections_have_their_own_byte_order_and_interfaces() -> None:
    data = b"".join(
        [
            section("<") + interface("<") + interface("<", linktype=101),
            enhanced_packet(1, b"a", "<", index=1),
            section(">") + interface(">", linktype=113, options=resolution(9, ">")),
            enhanced_packet(2, b"b", ">", index=0),
            section("<"),
        ]
    )
    capture = reader(data)
    frames = []
    while capture.read_batch():
        frames += capture.batch()
    assert frames == [(1000, b"a", 101, 1, 1), (2, b"b", 113, 1, 2)]
    assert [entry.linktype for entry in capture.interfaces] == [1, 101, 113]


START_OF_SECTION = section() + interface()


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(enhanced_packet(0, b"x", index=1), id="packet of an unknown interface"),
        pytest.param(obsolete_packet(0, b"x", index=7), id="old packet of an unknown interface"),
        pytest.param(section() + simple_packet(b"x"), id="simple packet without an interface"),
        pytest.param(section() + enhanced_packet(0, b"x"), id="interface of another section"),
        pytest.param(section(version=(2, 0)), id="version"),
        pytest.param(block(SECTION, bytes(16)), id="byte-order magic"),
        pytest.param(block(INTERFACE, bytes(4)), id="interface block too short"),
        pytest.param(block(PACKET, bytes(16)), id="packet block too short"),
        pytest.param(block(SIMPLE_PACKET, b""), id="simple packet block too short"),
        pytest.param(struct.pack("<II", NAMES, 8) + bytes(8), id="block shorter than its frame"),
        pytest.param(struct.pack("<II", NAMES, 14) + bytes(20), id="block of an odd length"),
        pytest.param(struct.pack("<II", NAMES, 1 << 27) + bytes(20), id="block too long"),
        pytest.param(block(NAMES, bytes(4))[:-4] + bytes(4), id="lengths differ"),
        pytest.param(interface(options=struct.pack("<HH", 2, 400)), id="option past its block"),
        pytest.param(interface(options=option(9, b"")), id="empty if_tsresol"),
        pytest.param(interface(options=option(14, b"1234")), id="short if_tsoffset"),
        pytest.param(
            enhanced_packet(0, b"12345678").replace(struct.pack("<II", 8, 8), struct.pack("<II", 99, 99)),
            id="more captured bytes than the block has",
        ),
    ],
)
def test_damaged_pcapng_is_read_up_to_the_damage(broken: bytes) -> None:
    good = START_OF_SECTION + enhanced_packet(1, b"first") + enhanced_packet(2, b"second")
    extra_section = section() if broken.startswith(section()) and len(broken) > len(section()) else b""
    got, error = read_broken(good + broken + enhanced_packet(3, b"third"))
    assert [row[1] for row in got] == [b"first", b"second"]
    assert error is not None
    assert (error.offset, error.frames) == (len(good) + len(extra_section), 2)


def test_number_of_interfaces_is_bounded() -> None:
    got, error = read_broken(section() + interface() * (1 << 16) + enhanced_packet(0, b"x"))
    assert (len(got), error) == (1, None)
    got, error = read_broken(section() + interface() * ((1 << 16) + 1))
    assert error is not None


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [4096, 256 * 1024])
@pytest.mark.parametrize("kind", ["pcap", "modified pcap", "pcapng"])
def test_capture_cut_at_any_byte_gives_all_whole_frames_then_an_error(kind: str, block_size: int) -> None:
    frames = samples(4, size=20)
    if kind == "pcapng":
        header = section() + interface()
        whole = pcapng(frames)
        ends = boundaries(header, [enhanced_packet(0, frame.data) for frame in frames])
        clean = {len(section()), *ends}
    else:
        magic = MODIFIED_MAGIC if kind == "modified pcap" else MICROSECOND_MAGIC
        whole = pcap(frames, magic=magic)
        ends = boundaries(pcap_header(), [pcap_record(frame, magic=magic) for frame in frames])
        clean = set(ends)
    for length in range(len(whole) + 1):
        got, error = read_broken(whole[:length], block_size=block_size)
        present = sum(end <= length for end in ends[1:])
        assert got == rows(frames[:present])
        assert (error is None) == (length in clean)
        if error is not None:
            last = max((end for end in {0, *clean} if end <= length), default=0)
            assert (error.frames, error.offset) == (present, last)


@pytest.mark.parametrize("build", [pcap, pcapng])
@BOTH_ORDERS
def test_changed_bytes_never_do_worse_than_an_error(build: Build, order: str) -> None:
    generator = random.Random(2)
    whole = build(samples(30, size=10), order)
    for _ in range(3000):
        got, _ = read_broken(damaged(whole, generator))
        assert sum(len(row[1]) for row in got) <= len(whole)
        assert all(-LATEST <= row[0] <= LATEST for row in got)


@pytest.mark.parametrize("start", [b"\xd4\xc3\xb2\xa1\2\0\4\0", section() + interface(), b"\x0a\x0d\x0d\x0a"])
def test_random_bytes_never_do_worse_than_an_error(start: bytes) -> None:
    generator = random.Random(3)
    for _ in range(3000):
        read_broken(start + generator.randbytes(generator.randrange(300)))


def test_an_error_is_raised_once_and_ends_the_capture() -> None:
    capture = reader(pcap(samples())[:-1])
    assert capture.read_batch()
    with pytest.raises(CaptureError):
        capture.read_batch()
    assert not capture.read_batch()
    assert capture.frames_read == 4


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [pcap, pcapng])
def test_batches_do_not_depend_on_how_the_bytes_arrive(build: Build) -> None:
    whole = build(samples(2000, size=5))

    def batches(seed: int | None) -> list[list[tuple[int, bytes, int, int, int]]]:
        capture = reader(whole, seed=seed)
        return [capture.batch() for _ in iter(capture.read_batch, False)]

    whole_blocks = batches(None)
    assert len(whole_blocks) > 10
    assert batches(4) == batches(5) == whole_blocks


@pytest.mark.parametrize("size", [4096 - 16, 4096, 5000, 200_000])
@pytest.mark.parametrize("build", [pcap, pcapng])
def test_frames_longer_than_a_block(build: Build, size: int) -> None:
    frames = [*samples(3), Sample(START + 9, 0, b"L" * size, size), *samples(3), *samples(2, size=size)]
    assert read(build(frames)) == rows(frames)


def test_frames_without_any_byte() -> None:
    frames = [Sample(START, i, b"", 60) for i in range(1000)]
    assert read(pcap(frames)) == rows(frames)


def test_batch_is_empty_before_the_first_and_behind_the_last() -> None:
    capture = reader(pcap(samples()))
    assert capture.batch() == []
    assert capture.read_batch()
    assert len(capture.batch()) == 5
    assert not capture.read_batch()
    assert capture.batch() == []


def test_closing_ends_the_capture() -> None:
    file = Memory(pcap(samples()))
    with CaptureReader(file, []) as capture:
        frames = iter(capture)
        next(frames)
    capture.close()
    assert file.closed
    assert capture.batch() == []
    assert not capture.read_batch()


def test_file_is_closed_at_its_end_and_on_an_error() -> None:
    for data in (pcap(samples()), pcap(samples())[:-1]):
        file = Memory(data)
        with contextlib.suppress(CaptureError):
            list(CaptureReader(file, []))
        assert file.closed
    file = Memory(b"no capture")
    with pytest.raises(CaptureError):
        CaptureReader(file, [])
    assert file.closed


def test_progress_is_told_in_bytes() -> None:
    whole = pcap(samples(500))
    capture = reader(whole)
    assert capture.position() == MIN_BLOCK_SIZE
    assert capture.total() == len(whole)
    list(capture)
    assert capture.position() == len(whole)


@pytest.mark.parametrize("block_size", [MIN_BLOCK_SIZE - 1, 0, -1])
def test_block_size_is_bounded(block_size: int) -> None:
    file = Memory(pcap(samples()))
    with pytest.raises(ValueError, match="block_size"):
        CaptureReader(file, [], block_size)
    assert file.closed
