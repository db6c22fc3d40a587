from collections.abc import Callable
from typing import final

from aiomos.registry import Registry
from aiomos.runtime import Runtime
from aiomos.tcp.verdicts import Verdicts
from aiomos.tcp.views import Flow
from aiomos.ude.user import UserEvent

@final
class Timer:
    @property
    def due_ns(self) -> int: ...
    @property
    def active(self) -> bool: ...
    @property
    def due(self) -> float: ...
    def cancel(self) -> None: ...

class Callbacks(Registry):
    face: Runtime | None
    on_news: Callable[[], None] | None
    read_clock: Callable[[], int] | None
    on_set_back: Callable[[int], None] | None
    @property
    def outlet(self) -> Verdicts: ...
    def emit(self, event: UserEvent, view: Flow) -> None: ...
    def set_timer(self, view: Flow, delay: float, function: Callable[[Flow], object] | None) -> Timer: ...
