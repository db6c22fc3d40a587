"""Set-up of structlog: one line a record, on standard error, for people or for machines.

structlog is imported with the first logger, not before: its import nearly doubles the start-up time of the
command line, and most runs log nothing.
"""

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

_pending: tuple[LogFormat, LogLevel] | None = None


def configure(format: LogFormat = "console", level: LogLevel = "info") -> None:  # noqa: A002
    """Send records of *level* and above to standard error, in colour only where that is a terminal.

    Only programs call this; as a library aiomos leaves structlog as it finds it. An app that logs through
    structlog itself is covered once any logger came from `get_logger`, or if it imported structlog before.
    """
    global _pending
    _pending = (format, level)
    if "structlog" in sys.modules:
        _apply()


def get_logger(name: str) -> "FilteringBoundLogger":
    """Return a logger whose records carry *name* as ``component``.

    Fields are named as in the glossary: ``flow`` is text as ``10.0.0.1:4242 -> 10.0.0.2:80``, ``app`` a name.
    """
    import structlog

    _apply()
    logger: FilteringBoundLogger = structlog.get_logger(component=name)
    return logger


def _apply() -> None:
    """Carry out the last `configure` that has not been carried out."""
    global _pending
    if _pending is None:
        return
    import structlog

    format_, level = _pending
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
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
