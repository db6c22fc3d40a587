"""Steps that are all to be done, whatever one of them raises: how a run, or an app, comes to its end."""

from types import TracebackType

from aiomos.logging import get_logger

ENDS_PROGRAM = (SystemExit, KeyboardInterrupt)
"""What is to end the program, with the status that it asks for; raised out of a task, it would stop the event loop."""


class Steps:
    """Do each step in a ``with`` block, then `conclude`.

    The first exception is held until then, but one that ends the program, or cancels the task, goes before others.
    Those that are not raised are logged.
    """

    def __init__(self) -> None:
        self._held: BaseException | None = None

    def __enter__(self) -> None:
        """Begin a step."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Hold what the step raised."""
        if exc is not None:
            self._held = exc if self._held is None else _graver(self._held, exc)
        return True

    def conclude(self, raised: BaseException | None = None) -> None:
        """Raise what was held, if anything was.

        Args:
            raised: What is on its way already, and goes on unless something graver was held.
        """
        held, self._held = self._held, None
        if held is None or held is raised:
            return
        if raised is None or _graver(raised, held) is held or isinstance(raised, Exception):
            raise held


def _graver(first: BaseException, then: BaseException) -> BaseException:
    """Return what is to be raised of two exceptions, and log the other."""
    graver, other = (then, first) if _rank(then) > _rank(first) else (first, then)
    if not (
        isinstance(first, BrokenPipeError) and isinstance(then, BrokenPipeError)
    ):  # of one reader that has gone
        get_logger("aiomos").error("failed_at_the_end", exc_info=other)
    return graver


def _rank(error: BaseException) -> int:
    """Tell how grave an exception is: one that ends the program most, then one that cancels the task."""
    if isinstance(error, ENDS_PROGRAM):
        return 2
    return 0 if isinstance(error, Exception) else 1
