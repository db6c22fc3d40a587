"""What is to be run by workers, and what each of them is told."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import attrs

from aiomos.logging import LogFormat, LogLevel
from aiomos.settings import Settings

if TYPE_CHECKING:
    from aiomos.transport.wires import Wire


@attrs.frozen
class AppPlan:
    """An app to be attached.

    Attributes:
        place: As the command line names it.
        options: ``name=value`` texts for it alone.
    """

    place: str
    options: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Plan:
    """What workers run.

    Attributes:
        workers: How many.
        apps: Their apps.
        captures: Captures that each of them reads; none where traffic is live.
        wire: Live traffic.
        settings: Settings of each engine; budgets are of each.
        loop: The event loop.
        log_format: How logs are written.
        log_level: Least severity to log.
        grace: Seconds that handlers may take to end once the run is to.
        watchdog: Seconds without a sign of life after which a worker is replaced; 0 for never.
    """

    workers: int
    apps: tuple[AppPlan, ...] = ()
    captures: tuple[str, ...] = ()
    wire: "Wire | None" = None
    settings: Settings = attrs.field(factory=Settings)
    loop: Literal["uvloop", "asyncio"] = "uvloop"
    log_format: LogFormat = "console"
    log_level: LogLevel = "info"
    grace: float = 10.0
    watchdog: float = 0.0


@attrs.frozen(kw_only=True)
class Task:
    """What one worker is told at its start.

    Attributes:
        plan: What all of them run; its apps are those that are attached now.
        number: Which of the workers it is, from 0.
        cpu: The processor it is to run on.
        control: Path of its own control socket.
        sockets: Descriptors of its sockets.
        clock_base_ns: That of the `LiveClock` of the run, by which all workers tell one time.
        restarts: How many processes there were of it before.
    """

    plan: Plan
    number: int
    cpu: int
    control: Path
    sockets: tuple[int, ...] = ()
    clock_base_ns: int = 0
    restarts: int = 0
