from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from typing_extensions import Buffer

from aiomos.app import Overlap
from aiomos.hooks import Hooks
from aiomos.registry import Account
from aiomos.settings import Settings
from aiomos.tcp.levels import Level
from aiomos.tcp.streams import MonitorConnection
from aiomos.tcp.views import Flow
from aiomos.transport.source import FrameSource
from aiomos.transport.transport import Transport
from aiomos.ude.events import Event
from aiomos.ude.machine import Program
from aiomos.ude.user import UserEvent

OVERLAPS: tuple[Overlap, ...]

class Engine(Hooks):
    def __new__(
        cls,
        settings: Settings,
        key: Buffer,
        on_callback_error: Callable[[Any, Flow | None, Exception], object],
    ) -> Self: ...
    def add_rule(
        self,
        program: Program | None,
        level: Level,
        *,
        account: Account | None = None,
        midstream: bool = False,
        overlap: Overlap = "first",
        opener: Callable[[Flow], MonitorConnection] | None = None,
        keeps: bool = False,
        unbound: bool = False,
    ) -> int: ...
    def start_at(
        self, rule: int, event: Event | UserEvent, opener: Callable[[Flow], MonitorConnection]
    ) -> int: ...
    def remove_rule(self, number: int) -> None: ...
    def remove_account(self, account: Account) -> None: ...
    def feed(self, source: FrameSource) -> None: ...
    def feed_frames(self, frames: Iterable[tuple[int, Buffer, int, int]]) -> None: ...
    def finish(self) -> bool: ...
    def pass_time(self, now_ns: int) -> None: ...
    @property
    def next_deadline(self) -> float | None: ...
    def flush(self, transport: Transport) -> None: ...
    def send(self, frame: Buffer, interface: int, linktype: int) -> None: ...
    @property
    def now(self) -> float: ...
    def open_flows(self) -> Iterator[Flow]: ...
    def count_flows(self, account: Account) -> int: ...
    def statistics(self) -> dict[str, int]: ...
