"""Every capture in line, whole and damaged, with random verdicts."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.hostile import Frame, read_frames
from tests.fuzz.in_line import Choices, InLineRun, check_in_line, has_right_sums, is_malformed
from tests.fuzz.quotes import in_pieces, with_errors
from tests.fuzz.test_mutations import MUTATIONS, each_capture, mutated
from tests.rules import does_not_apply

MOST_FRAMES = 500


def all_choices(chosen: random.Random) -> Iterator[Choices]:
    """Give ways to run."""
    while True:
        yield Choices(
            seed=chosen.randrange(1 << 30),
            tight=chosen.random() < 0.6,
            closed=chosen.random() < 0.3,
            verify=chosen.random() < 0.3,
            decapsulate=chosen.random() < 0.3,
            forgetful=chosen.random() < 0.5,
            batch=chosen.choice((1, 7, 64)),
            calm=chosen.random() < 0.5,
        )


@each_capture
def test_whole(path: Path) -> None:
    frames = read_frames(path)[:MOST_FRAMES]
    for _, choices in zip(range(MUTATIONS), all_choices(random.Random(path.name)), strict=False):
        check_in_line(frames, choices)


@each_capture
def test_damaged(path: Path) -> None:
    frames = read_frames(path)[:MOST_FRAMES]
    chosen = random.Random(path.name + "!")
    for _, choices in zip(range(MUTATIONS), all_choices(chosen), strict=False):
        check_in_line([mutated(frame, chosen) for frame in frames], choices)


@each_capture
def test_in_pieces(path: Path) -> None:
    """ICMP errors, too, and in fragments; behind links that state a length, and beyond holes."""
    chosen = random.Random(path.name + "%")
    frames = read_frames(path)[: MOST_FRAMES // 2]
    for _, choices in zip(range(MUTATIONS), all_choices(chosen), strict=False):
        check_in_line([*in_pieces(with_errors(frames, chosen), chosen)], choices)


@each_capture
def test_what_came_with_right_checksums_leaves_with_right_checksums(path: Path) -> None:
    frames: list[Frame] = [
        frame
        for frame in read_frames(path)[:MOST_FRAMES]
        if frame[2] == 1 and len(frame[1]) == frame[3] and has_right_sums(frame[1])
    ]
    if not frames:
        does_not_apply("no such packets in it")
    for seed in range(MUTATIONS):
        run = InLineRun(Choices(seed=seed, calm=bool(seed % 2)), [1])
        for at in range(0, len(frames), 7):
            run.feed(frames[at : at + 7])
        run.finish()
        for frame in run.wire.all_sent:
            if frame == bytes(60):
                continue
            assert not is_malformed(frame, 1)
            if (frame[12:14] == b"\x08\x00" and frame[23] in (6, 17)) or frame[20:21] in (b"\x06", b"\x11"):
                assert has_right_sums(frame) or len(frame) >= 1600, frame.hex()


def test_the_same_seed_does_the_same() -> None:
    frames = read_frames(Path(__file__).parents[1] / "data" / "http.pcap")
    assert check_in_line(frames, Choices(seed=5)) == check_in_line(frames, Choices(seed=5))


def test_damage_is_as_much_as_asked_for() -> None:
    assert int(os.environ.get("AIOMOS_MUTATIONS", "4")) == MUTATIONS
