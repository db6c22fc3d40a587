"""Clocks that step: what a capture's times come to when its host's clock is set, or one frame's time is wrong."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from tests.fuzz.hostile import Frame

SECOND = 1_000_000_000
YEAR = 365 * 86_400 * SECOND
STEPS = (SECOND // 1000, SECOND, 40 * SECOND, 200 * SECOND, 2 * 3600 * SECOND, YEAR, 40 * YEAR)
SHARE = 0.03


def with_steps(frames: Iterable[Frame], chosen: random.Random) -> Iterator[Frame]:
    """Have the clock step to and fro in the middle of frames, and single frames at quite another time.

    Args:
        frames: In their order.
        chosen: Chooses where, and how far.
    """
    offset = 0
    for time_ns, data, linktype, wirelen in frames:
        if chosen.random() < SHARE:
            step = chosen.choice(STEPS) * chosen.choice((1, -1))
            offset = chosen.choice((0, step, offset + step))
        alone = chosen.choice(STEPS) * chosen.choice((1, -1)) if chosen.random() < SHARE else 0
        at = time_ns + offset + alone
        yield at if 0 <= at < 1 << 62 else time_ns, data, linktype, wirelen
