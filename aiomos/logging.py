"""Where log records go: in a program of its own, as lines on standard error; as a guest, where the program has them go.

The command line sets structlog up, one line a record, for people or for machines. A program that imports aiomos has
done that itself, or uses Python's `logging`, whose records go to standard error unless it says otherwise.

structlog is imported with the first logger, not before: its import nearly doubles the start-up time of the
command line, and most runs log nothing.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

ROOT = "aiomos"

_pending: tuple[LogFormat, LogLevel, dict[str, object]] | None = None
_format: LogFormat = "console"


def configure(
    format: LogFormat = "console",  # noqa: A002
    level: LogLevel = "info",
    **bound: object,
) -> None:
    """Send records of *level* and above to standard error, in colour only where that is a terminal.

    What is *bound*, such as the number of a worker, is in every record.

    Only programs call this; as a library aiomos leaves structlog and logging as it finds them. An app that logs through
    structlog itself is covered once any logger came from `get_logger`, or if it imported structlog before.
    """
    global _pending, _format
    _pending, _format = (format, level, bound), format
    if "structlog" in sys.modules:
        _apply()


def log_format() -> LogFormat:
    """Tell how records are written."""
    return _format


def get_logger(name: str) -> "FilteringBoundLogger":
    """Return a logger whose records carry *name* as ``component``.

    Fields are named as in the glossary: ``flow`` is text as ``10.0.0.1:4242 -> 10.0.0.2:80``, ``app`` a name.

    Ask for one when there is something to log: where nobody has configured structlog by then, records go to Python's
    `logging`, to ``aiomos`` or a logger below it, with the fields as part of the message.
    """
    import structlog

    _apply()
    if structlog.is_configured():
        logger: FilteringBoundLogger = structlog.get_logger(component=name)
        return logger
    below = name if f"{name}.".startswith(f"{ROOT}.") else f"{ROOT}.{name}"
    guest = structlog.wrap_logger(
        logging.getLogger(below),
        processors=[structlog.stdlib.filter_by_level, _as_message],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return cast("FilteringBoundLogger", guest)


def _as_message(
    _logger: object, _method: str, record: MutableMapping[str, Any]
) -> tuple[tuple[str], dict[str, object]]:
    """Give what the methods of `logging.Logger` take."""
    exception = record.pop("exc_info", None)
    event = record.pop("event", "")
    fields = (f"{name}={value if isinstance(value, int) else repr(value)}" for name, value in record.items())
    return (" ".join((str(event), *fields)),), {"exc_info": exception}


def _apply() -> None:
    """Carry out the last `configure` that has not been carried out."""
    global _pending
    if _pending is None:
        return
    import structlog

    format_, level, bound = _pending
    _pending = None
    # Tracebacks go without local variables: those hold payload, which has no place in a log.
    renderers = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if format_ == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )

    def bind(_logger: object, _method: str, record: "EventDict") -> "EventDict":
        return {**bound, **record}

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            bind,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
