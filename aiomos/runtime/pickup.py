"""Running flows for rules that are added meanwhile."""

import asyncio
from collections.abc import Callable

from aiomos.engine.engine import Engine


class PickUp:
    """Show running flows to new rules; of many, some in each turn of the loop, so that frames have theirs.

    Args:
        engine: The engine.
        attend: Called when all have been shown.
    """

    def __init__(self, engine: Engine, attend: Callable[[], object]) -> None:
        self._engine = engine
        self._attend = attend
        self._goes_on = False
        self._ended = False

    def show(self, rule: int) -> None:
        """Show the flows there are to a rule."""
        if self._engine.pick_up([rule]) and not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def end(self) -> None:
        """The run has ended: show no more."""
        self._ended = True

    def _go_on(self) -> None:
        self._goes_on = not self._ended and self._engine.pick_on()
        if self._goes_on:
            asyncio.get_running_loop().call_soon(self._go_on)
        else:
            self._attend()
