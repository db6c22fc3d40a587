"""Running flows, and rules that are added or removed meanwhile."""

import asyncio
from collections.abc import Callable

from aiomos.engine.engine import Engine
from aiomos.engine.registry import Account


class PickUp:
    """Show running flows to new rules, and have them forget old ones.

    Of many, some are looked at in each turn of the loop, so that frames have theirs.

    Args:
        engine: The engine.
        attend: Called when all have been.
    """

    def __init__(self, engine: Engine, attend: Callable[[], object]) -> None:
        self._engine = engine
        self._attend = attend
        self._goes_on = False
        self._ended = False

    def show(self, rule: int) -> None:
        """Show the flows there are to a rule."""
        if self._engine.pick_up([rule]):
            self._begin()

    def forget(self, account: Account) -> None:
        """Have the engine forget an account, with all that is left of it."""
        if self._engine.remove_account(account) and not self._ended:
            self._begin()

    def end(self) -> None:
        """The run has ended: look at no more."""
        self._ended = True

    def _begin(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = not self._ended and any([self._engine.pick_on(), self._engine.sweep_on()])
        if self._goes_on:
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._attend()
