from collections.abc import Callable, Iterable
from typing import Any, Self

from typing_extensions import Buffer

from aiomos.app import Overlap
from aiomos.delivery import Delivery
from aiomos.settings import Settings
from aiomos.tcp.levels import Level
from aiomos.tcp.streams import MonitorConnection
from aiomos.tcp.views import Flow
from aiomos.transport.source import FrameSource
from aiomos.ude.machine import Program

OVERLAPS: tuple[Overlap, ...]

class Engine(Delivery):
    def __new__(
        cls, settings: Settings, key: Buffer, on_callback_error: Callable[[Any, Flow, Exception], object]
    ) -> Self: ...
    def add_rule(
        self,
        program: Program,
        level: Level,
        *,
        midstream: bool = False,
        overlap: Overlap = "first",
        opener: Callable[[Flow], MonitorConnection] | None = None,
        calls: Iterable[tuple[str, Callable[..., object], tuple[str, ...]]] = (),
    ) -> int: ...
    def remove_rule(self, number: int) -> None: ...
    def feed(self, source: FrameSource) -> None: ...
    def feed_frames(self, frames: Iterable[tuple[int, Buffer, int, int]]) -> None: ...
    def finish(self) -> bool: ...
    @property
    def now(self) -> float: ...
    def statistics(self) -> dict[str, int]: ...
