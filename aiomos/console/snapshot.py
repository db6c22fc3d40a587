"""What a run holds and has done at one moment: for metrics, for the signal SIGUSR1, for a supervisor."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import attrs

from aiomos.console.control import ControlledRuntime, Names
from aiomos.console.shortfalls import shortfalls
from aiomos.logging import get_logger, log_format
from aiomos.runtime.signals import handled
from aiomos.settings import Budgets

USED = {
    "flows": "open",
    "half_open": "half_open",
    "held_bytes": "held_bytes",
    "kept_bytes": "kept_bytes",
    "stream_bytes_total": "unread_bytes",
    "fragment_bytes": "defrag.held_bytes",
}
"""Of each budget that bounds a run as a whole, the counter that says how much of it is in use."""


@attrs.frozen(kw_only=True)
class Snapshot:
    """One engine at one moment.

    Attributes:
        worker: Its number, 0 where there is only one.
        up: Whether it answered; of one that did not, nothing else is known.
        restarts: How often it was restarted.
        counters: As `Runtime.statistics` gives them.
        apps: The figures of each app by the name it goes by, as `Runtime.app_statistics` gives them.
        budgets: What the engine may hold.
    """

    worker: int = 0
    up: bool = True
    restarts: int = 0
    counters: Mapping[str, int] = attrs.field(factory=dict)
    apps: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)
    budgets: Budgets = attrs.field(factory=Budgets)

    @property
    def flows(self) -> dict[str, int]:
        """Flows in the table by the state of their connection; ``closed`` ones wait for stragglers."""
        half_open, closed = (self.counters.get(name, 0) for name in ("half_open", "closed"))
        established = self.counters.get("open", 0) - half_open - closed
        return {"half_open": half_open, "established": established, "closed": closed}

    @property
    def used(self) -> dict[str, tuple[int, int]]:
        """How much of each budget is in use, and the budget."""
        return {
            budget: (self.counters.get(counter, 0), getattr(self.budgets, budget))
            for budget, counter in USED.items()
        }


def take(runtime: ControlledRuntime, budgets: Budgets) -> Snapshot:
    """Look at a runtime; call it in the thread of its event loop."""
    figures = runtime.app_statistics()
    apps = {name: dict(figures.get(app, {})) for name, app in Names().of(runtime.apps).items()}
    return Snapshot(counters=runtime.statistics(), apps=apps, budgets=budgets)


async def take_all(runtime: ControlledRuntime, budgets: Budgets) -> list[Snapshot]:
    """Look at all there are, which is one, in the event loop; for `aiomos.console.metrics.Exporter`."""
    return [take(runtime, budgets)]


@contextmanager
def shown_on_signal(look: Callable[[], Snapshot]) -> Iterator[None]:
    """For the length of a ``with`` block, SIGUSR1 writes the state to standard error, as logs are written.

    Args:
        look: Called in the event loop; never, where its thread is not the main one.
    """
    with handled({signal.SIGUSR1: lambda: show(look())}):
        yield


def show(snapshot: Snapshot, **bound: object) -> None:
    """Write a snapshot to standard error: as tables, or as one line of JSON where logs are that.

    Args:
        snapshot: What to show.
        bound: What else is said of it, such as the number of a worker.
    """
    if log_format() == "console":
        from aiomos.console.terminal import show_state

        title = ", ".join(f"{name} {value}" for name, value in bound.items())
        show_state(
            title,
            snapshot.counters,
            snapshot.apps,
            flows=snapshot.flows,
            used=snapshot.used,
            missing=[str(shortfall) for shortfall in shortfalls(snapshot.counters)],
        )
        return
    get_logger("aiomos").info(
        "state",
        **bound,
        flows=snapshot.flows,
        budgets={name: {"used": used, "limit": limit} for name, (used, limit) in snapshot.used.items()},
        counters={name: value for name, value in snapshot.counters.items() if value},
        apps=snapshot.apps,
        incomplete={shortfall.name: shortfall.text for shortfall in shortfalls(snapshot.counters)},
    )
