from collections.abc import Callable, Sequence
from typing import final

from aiomos.app import Overlap, Urgent
from aiomos.face.streams import MonitorConnection
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.ude.events import Event, Hook
from aiomos.ude.machine import Program
from aiomos.ude.user import UserEvent

OVERLAPS: tuple[Overlap, ...]

@final
class Account:
    @property
    def name(self) -> str: ...
    @property
    def order(self) -> int: ...
    @property
    def callbacks(self) -> int: ...
    @property
    def errors(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def calls(self) -> list[Call]: ...
    @property
    def seconds(self) -> float: ...

@final
class Call:
    @property
    def account(self) -> Account: ...
    @property
    def event(self) -> Event | UserEvent: ...
    @property
    def function(self) -> Callable[..., object] | None: ...
    @property
    def active(self) -> bool: ...

@final
class Node: ...

@final
class Registry:
    def add_account(self, name: str) -> Account: ...
    def add_rule(
        self,
        program: Program | None,
        level: Level,
        *,
        account: Account | None = None,
        midstream: bool = False,
        overlap: Overlap = "first",
        urgent: Urgent = "inline",
        opener: Callable[[Flow], MonitorConnection] | None = None,
        keeps: bool = False,
        unbound: bool = False,
    ) -> int: ...
    def add_call(
        self,
        rule: int,
        event: Event | UserEvent,
        hook: Hook,
        function: Callable[..., object] | None,
        parameters: Sequence[str],
        edits: bool | None = None,
    ) -> Call: ...
    def start_at(
        self, rule: int, event: Event | UserEvent, opener: Callable[[Flow], MonitorConnection]
    ) -> int: ...
    def slot_of(self, event: Event | UserEvent, hook: Hook) -> int: ...
    def remove_call(self, call: Call) -> None: ...
    def remove_rule(self, number: int) -> None: ...
    def remove_event(self, event: UserEvent) -> None: ...

def backwards(call: Call) -> int: ...
