from collections.abc import Iterable

from typing_extensions import Buffer

from aiomos.engine.engine import Engine

def feed_frames(engine: Engine, frames: Iterable[tuple[int, Buffer, int, int]]) -> None: ...
