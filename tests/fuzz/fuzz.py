"""Fuzz one target, led by the coverage of the compiled modules.

``python -m tests.fuzz.fuzz frames [libFuzzer options]``. The modules must have been built with ``AIOMOS_BUILD=fuzz
CC=clang``; ``make fuzz`` does all that. An input that breaks a promise is written to ``crash-*``: move it to
``tests/fuzz/regressions``, under a name that begins with its target.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import atheris

from aiomos.engine import registry
from aiomos.ude.combining import Judged, combine
from aiomos.ude.machine import Predicates
from tests.fuzz.hostile import read_frames
from tests.fuzz.targets import TARGETS, mutate_frames, seed_of

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "data"
LARGEST_SEED = 16 * 1024


def write_seeds(target: str, folder: Path) -> None:
    """Fill a folder with what the fuzzer is to begin from: the small captures that ship, and the regressions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(sorted(CAPTURES.rglob("*.pcap*"))):
        data = path.read_bytes() if target == "captures" else seed_of(read_frames(path), number & 0xFF)
        if len(data) <= LARGEST_SEED:
            (folder / f"{number:03}-{path.name}").write_bytes(data)
    for path in (ROOT / "tests" / "fuzz" / "regressions").glob(f"{target}-*"):
        (folder / path.name).write_bytes(path.read_bytes())


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input of frames, frame by frame."""
    return mutate_frames(data, max_size, seed, atheris.Mutate)


def remember_programs() -> None:
    """Have the predicates of an event compiled once for all runs: most of the time would go there."""
    made: dict[Any, tuple[Any, Predicates]] = {}

    def remembered(events: Sequence[Judged]) -> Predicates:
        key = tuple(
            (bit, parent, compiled and id(compiled), repr(chosen)) for bit, parent, compiled, chosen in events
        )
        if key not in made:
            made[key] = events, combine(events)  # with what has those ids
        return made[key][1]

    registry.combine = remembered  # type: ignore[attr-defined]


def main() -> None:
    """Fuzz as the command line says."""
    target, *options = sys.argv[1:]
    corpus = ROOT / "build" / "corpus" / target
    write_seeds(target, corpus)
    remember_programs()
    arguments = [sys.argv[0], str(corpus), f"-max_len={LARGEST_SEED}", "-timeout=30", *options]
    if target != "captures":
        atheris.Setup(arguments, TARGETS[target], custom_mutator=mutate)
    else:
        atheris.Setup(arguments, TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
