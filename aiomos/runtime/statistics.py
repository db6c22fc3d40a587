"""What a run came to, in figures."""

import attrs

from aiomos.app import App
from aiomos.engine.engine import Engine
from aiomos.logging import get_logger
from aiomos.runtime.attachments import Attachments
from aiomos.runtime.backlog import Backlog
from aiomos.runtime.failures import Failures
from aiomos.transport.transport import Transport
from aiomos.wire.protocols import Layer, number_name


@attrs.frozen(kw_only=True)
class Report:
    """What a run came to.

    Attributes:
        frames: Frames read.
        counters: Counters by name, as `Runtime.statistics` gives them.
        seconds: Wall time from the first read to the end of the last handler.
        calls: By the name of each app, how many handlers and callbacks were called, and how many of these raised.
    """

    frames: int
    counters: dict[str, int]
    seconds: float
    calls: dict[str, tuple[int, int]] = attrs.field(factory=dict)

    @property
    def failed(self) -> list[str]:
        """Names of the apps whose every handler and callback raised."""
        return [name for name, (calls, errors) in self.calls.items() if calls and errors >= calls]


class Statistics:
    """The figures of a runtime, read when they are asked for."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport | None,
        attachments: Attachments,
        backlog: Backlog,
        failures: Failures,
    ) -> None:
        self._engine = engine
        self._transport = transport
        self._attachments = attachments
        self._backlog = backlog
        self._failures = failures

    def counters(self) -> dict[str, int]:
        """See `Runtime.statistics`."""
        counters: dict[str, int] = self._engine.statistics()
        if self._transport is not None:
            counters |= {f"transport.{name}": count for name, count in self._transport.statistics().items()}
            if self._transport.clock is not None:
                counters["transport.clock_steps"] = self._transport.clock.steps
        gaps, gap_bytes = self._backlog.overflows
        counters["gap.unread"] += gaps
        counters["gap_bytes.unread"] += gap_bytes
        counters["unread_bytes"] = self._backlog.unread_bytes
        return counters | dict(self._failures.counts)

    def of_apps(self) -> dict[App, dict[str, float]]:
        """See `Runtime.app_statistics`."""
        attachments = list(self._attachments)
        watched = self._engine.count_flows([each.account for each in attachments])
        return {
            each.app: {
                "flows": flows,
                "callbacks": each.account.callbacks,
                "callback_seconds": each.account.seconds,
                "handlers": len(each.handlers.tasks),
                "handler_seconds": each.handlers.seconds,
                "bytes": each.account.bytes,
                "errors": each.account.errors + each.handlers.errors,
                "gap_bytes": each.pressure.overflow_bytes,
            }
            for each, flows in zip(attachments, watched, strict=True)
        }

    def calls(self) -> dict[str, tuple[int, int]]:
        """See `Runtime.calls`."""
        return {
            each.app.name: (
                each.handlers.started + each.account.callbacks,
                each.handlers.errors + each.account.errors,
            )
            for each in self._attachments
        }


def warn_of_unread(layer: int, number: int) -> None:
    """Log that something is not read in which connections may hide."""
    name = Layer(layer).name.lower()
    get_logger("aiomos").warning("not_read", layer=name, number=number, name=number_name(layer, number))
