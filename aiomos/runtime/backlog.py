"""What handlers could read and have not, and when the engine is to wait for them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aiomos.face.pressure import Pressure
from aiomos.settings import Budgets

app_pressure: ContextVar[Pressure] = ContextVar("aiomos_pressure")
"""Of the app whose code runs."""


class Backlog:
    """The pressures of all apps: each has its own, so that none pays for another's slowness.

    Args:
        budgets: How much may be unread.
        waits: Whether the engine can wait for slow handlers; live it cannot.

    Attributes:
        own: Of listeners, and of whoever belongs to no app.
    """

    def __init__(self, budgets: Budgets, *, waits: bool) -> None:
        self._budgets = budgets
        self._waits = waits
        self._pressures: list[Pressure] = []
        self.own = self.add()

    def add(self) -> Pressure:
        """Make the pressure of one more app."""
        pressure = Pressure(self._budgets.stream_bytes, self._budgets.stream_bytes_total, self._waits)
        self._pressures.append(pressure)
        return pressure

    def remove(self, pressure: Pressure) -> None:
        """Forget an app's."""
        self._pressures.remove(pressure)
        self.check()

    @property
    def unread_bytes(self) -> int:
        """Bytes that handlers could read and have not."""
        return sum(pressure.total for pressure in self._pressures)

    @property
    def overflows(self) -> tuple[int, int]:
        """Gaps that slow readers had, and their bytes."""
        return (
            sum(pressure.overflows for pressure in self._pressures),
            sum(pressure.overflow_bytes for pressure in self._pressures),
        )

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Have the task at hand, for the length of a ``with`` block, be one that waits for the engine's clock."""
        pressure = app_pressure.get(self.own)
        pressure.sleeper(1)
        try:
            yield
        finally:
            pressure.sleeper(-1)

    def holds_back(self) -> bool:
        """Tell whether the engine is not to be fed now."""
        return any(pressure.holds_back() for pressure in self._pressures)

    async def relieved(self) -> None:
        """Wait until handlers may have caught up."""
        waiter = asyncio.get_running_loop().create_future()
        for pressure in self._pressures:
            pressure.waiter = waiter
        try:
            await waiter
        finally:
            for pressure in self._pressures:
                pressure.waiter = None

    def check(self) -> None:
        """Have whoever waits look again."""
        for pressure in self._pressures:
            pressure.check()

    def next_turn(self) -> None:
        """Readers have had their turn since the last batch."""
        for pressure in self._pressures:
            pressure.next_turn()
