"""Inputs that once broke a promise, one a file, named by the fuzz target they are for; none does again."""

from pathlib import Path

import pytest

from tests.fuzz.hostile import read_frames
from tests.fuzz.targets import TARGETS, decode_frames, encode_frames, mutate_frames, seed_of

ROOT = Path(__file__).parents[2]
REGRESSIONS = sorted(Path(__file__).with_name("regressions").glob("*-*"))


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.name)
def test_what_broke_once_holds(path: Path) -> None:
    TARGETS[path.name.partition("-")[0]](path.read_bytes())


@pytest.mark.parametrize("data", [b"", b"\0", bytes(64), b"\xff" * 64], ids=["none", "one", "zeros", "ones"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_target_takes_anything(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_frames_survive_the_way_into_a_seed_and_through_its_mutations() -> None:
    captured = read_frames(ROOT / "tests" / "data" / "http.pcap")
    seed = seed_of(captured, 0)
    assert [data for _, data in decode_frames(seed[1:])] == [data for _, data, *_ in captured]
    assert encode_frames(decode_frames(seed[1:])) == seed[1:]
    for number in range(50):
        mutated = mutate_frames(seed, 1 << 20, number, lambda data, _: data[::-1])
        assert len(mutated) <= 1 << 20
        TARGETS["frames"](mutated)
