from collections.abc import Callable
from typing import final

@final
class LiveClock:
    @property
    def base_ns(self) -> int: ...
    @property
    def steps(self) -> int: ...
    def __init__(
        self,
        base_ns: int | None = None,
        *,
        wall: Callable[[], int] | None = None,
        monotonic: Callable[[], int] | None = None,
    ) -> None: ...
    def now(self) -> int: ...
