from collections.abc import Callable
from typing import final

from aiomos.face.views import Flow

@final
class Timer:
    @property
    def due_ns(self) -> int: ...
    @property
    def active(self) -> bool: ...
    @property
    def due(self) -> float: ...
    def cancel(self) -> None: ...

@final
class FlowTimers:
    def set_timer(self, view: Flow, delay: float, function: Callable[[Flow], object] | None) -> Timer: ...
