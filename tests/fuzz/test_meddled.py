"""Every capture beside an app that changes everything while it is called, under clocks that step, in tunnels."""

import random
from collections import Counter
from pathlib import Path

import attrs

from aiomos.testing.batches import feed_frames
from tests.fuzz import test_in_line_damage, test_mutations
from tests.fuzz.hostile import Choices, HostileRun, check_frames, read_frames
from tests.fuzz.in_line import Choices as InLineChoices
from tests.fuzz.in_line import InLineRun, check_in_line
from tests.fuzz.meddling import GENERAL, ON_A_FLOW
from tests.fuzz.steps import YEAR, with_steps
from tests.fuzz.targets import made_hostile
from tests.fuzz.test_mutations import MUTATIONS, each_capture, mutated

MOST_FRAMES = 200
HTTP = Path(__file__).parents[1] / "data" / "http.pcap"


@each_capture
def test_watched(path: Path) -> None:
    chosen = random.Random(path.name + "#")
    for _, choices in zip(range(MUTATIONS), test_mutations.all_choices(chosen), strict=False):
        frames = [mutated(frame, chosen) for frame in made_hostile(read_frames(path)[:MOST_FRAMES], chosen)]
        check_frames(frames, attrs.evolve(choices, meddling=chosen.randrange(1 << 30)))


@each_capture
def test_in_line(path: Path) -> None:
    chosen = random.Random(path.name + "&")
    for _, choices in zip(range(MUTATIONS), test_in_line_damage.all_choices(chosen), strict=False):
        frames = made_hostile(read_frames(path)[:MOST_FRAMES], chosen)
        check_in_line(frames, attrs.evolve(choices, meddles=True))


def test_it_does_meddle() -> None:
    frames = read_frames(HTTP)
    done: Counter[str] = Counter()
    for seed in range(15):
        watched = HostileRun(Choices(meddling=seed))
        feed_frames(watched.engine, frames)
        watched.finish(len(frames))
        in_line = InLineRun(InLineChoices(meddles=True, calm=True, seed=seed), [1])
        in_line.feed(frames)
        in_line.finish()
        for meddler in (watched.meddler, in_line.meddler):
            assert meddler is not None
            done += meddler.done
    assert min(done[act] for act in (*ON_A_FLOW, *GENERAL)) >= 3, done


def test_clocks_step() -> None:
    frames = [(at, b"", 1, 0) for at in range(50 * YEAR, 55 * YEAR, YEAR // 100)]
    times = [at for at, *_ in with_steps(frames, random.Random(1))]
    moved = [new - old for new, (old, *_) in zip(times, frames, strict=True) if new != old]
    assert min(moved) < -YEAR // 2 < YEAR // 2 < max(moved)
