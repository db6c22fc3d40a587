"""Pools and slabs: what they give out is whole and apart, what they took back is out of bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traffic import Traffic

probe: Any = pytest.importorskip("tests.native._probe_memory", reason="needs the native test probes")

SLAB = 65536
UNIT = 128
LENGTHS = st.sampled_from([1, 128, 129, 1000, 1460, 2048, 2049, 40_000, SLAB]) | st.integers(1, SLAB)
STEPS = st.lists(LENGTHS | st.just(0), max_size=60)


def rounded(length: int) -> int:
    return max(UNIT, 1 << (length - 1).bit_length())


@settings(max_examples=100)
@given(steps=STEPS, picks=st.randoms(use_true_random=False))
def test_blocks_are_apart_and_keep_what_is_written(steps: list[int], picks: Any) -> None:
    blocks = probe.Blocks(4 * SLAB)
    held: dict[int, tuple[int, int]] = {}
    for number, length in enumerate(steps):
        if length:
            waits = blocks.waits(length)
            name = blocks.take(length)
            assert bool(name) == waits
            if name:
                assert name not in held
                held[name] = (rounded(length), number)
                blocks.fill(name, number)
        elif held:
            name = picks.choice(sorted(held))
            assert blocks.is_filled(name, held.pop(name)[1])
            blocks.give(name)
        places = sorted(blocks.place(name) for name in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(places))
        assert all(start >= SLAB and start // SLAB == (end - 1) // SLAB for start, end in places)
        slabs = {start // SLAB for start, _ in places}
        assert blocks.in_use == (len(held), sum(size for size, _ in held.values()), len(slabs))
    assert all(blocks.is_filled(name, number) for name, (_, number) in held.items())
    for name in held:
        blocks.give(name)
    assert blocks.in_use == (0, 0, 0)


def test_all_of_the_memory_can_be_had_in_any_size() -> None:
    blocks = probe.Blocks(4 * SLAB)
    for length in (1, SLAB, 300, 1460, 1):
        names = []
        while name := blocks.take(length):
            names.append(name)
        assert len(names) == 14 * SLAB // rounded(length)  # a slab for each of ten sizes more
        for name in names:
            blocks.give(name)


@pytest.mark.skipif(not probe.poisons, reason="needs AddressSanitizer: make asan")
def test_what_is_free_is_poisoned() -> None:
    records = probe.Records(24, 10)
    assert records.is_poisoned(0)  # none
    first, second = records.take(), records.take()
    records.give(first)
    assert (records.is_poisoned(first), records.is_poisoned(second)) == (True, False)
    assert records.take() == first
    assert not records.is_poisoned(first)
    blocks = probe.Blocks(SLAB)
    names = [blocks.take(1460) for _ in range(3)]
    blocks.give(names[1])
    assert [blocks.is_poisoned(name) for name in names] == [False, True, False]
    assert blocks.take(1460) == names[1]
    assert not blocks.is_poisoned(names[1])


@pytest.mark.skipif(not probe.poisons, reason="needs AddressSanitizer: make asan")
def test_a_batch_is_poisoned_when_the_next_has_come() -> None:
    traffic = Traffic()
    traffic.connection()
    traffic.cut()
    traffic.connection(1001)
    assert probe.frame_of_the_batch_before(traffic.source()) == (False, True)


@pytest.mark.skipif(not probe.poisons, reason="needs AddressSanitizer: make asan")
def test_what_was_to_be_sent_is_poisoned_when_it_is() -> None:
    ways = probe.Ways()
    for _ in range(3):
        assert ways.take(100)
        assert not ways.is_poisoned()
        ways.clear()
        assert ways.is_poisoned()


USES = {
    "record": "records = p.Records(192, 10); at = records.take(); records.give(at); records.touch(at)",
    "no record": "p.Records(192, 10).touch(0)",
    "block": "blocks = p.Blocks(65536); blocks.take(99); at = blocks.take(99); blocks.give(at); blocks.touch(at)",
    "arena": "ways = p.Ways(); ways.take(99); ways.clear(); ways.touch()",
    "slab": "blocks = p.Blocks(65536); at = blocks.take(65536); blocks.give(at); blocks.touch(at)",
}


@pytest.mark.skipif(not probe.poisons, reason="needs AddressSanitizer: make asan")
@pytest.mark.parametrize("use", USES)
def test_the_sanitizer_catches_a_use_after_release(use: str) -> None:
    program = f"import tests.native._probe_memory as p\n{USES[use]}\nprint('not caught')"
    root = Path(__file__).parents[3]
    environment = os.environ | {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert "use-after-poison" in run.stderr
    assert "not caught" not in run.stdout
