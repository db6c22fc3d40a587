from collections.abc import Callable, Iterable, Sequence

from aiomos.callbacks import Callbacks
from aiomos.registry import Account, Call
from aiomos.tcp.views import Flow
from aiomos.ude.events import Event, Hook
from aiomos.ude.user import UserEvent

class Past: ...

class Delivery(Callbacks):
    def pick_up(self, rules: Iterable[int]) -> None: ...
    def stop(self, view: Flow) -> None: ...
    def listen(
        self,
        view: Flow,
        event: Event | UserEvent,
        hook: Hook,
        function: Callable[..., object],
        parameters: Sequence[str],
    ) -> Call: ...
    def own_call(self, account: Account, event: Event | UserEvent, hook: Hook) -> Call: ...
    def ignore(self, view: Flow, own: Call) -> None: ...
    def released(self, view: Flow) -> None: ...
