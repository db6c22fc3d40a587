"""A start-up that fails leaves nothing: what its functions have opened is closed, as no shut-down function does it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar

_undo: ContextVar[ExitStack | None] = ContextVar("aiomos_undo", default=None)


@contextmanager
def starting() -> Iterator[ExitStack]:
    """Run start-up functions in a ``with`` block; what they have opened is undone, the last first, if it raises.

    Yields:
        What is undone then.
    """
    with ExitStack() as undo:
        token = _undo.set(undo)
        try:
            yield undo
        finally:
            _undo.reset(token)
        undo.pop_all()


def undone_on_failure(function: Callable[[], object]) -> None:
    """Have a function called if the start-up at hand fails; outside of one, nothing."""
    undo = _undo.get()
    if undo is not None:
        undo.callback(_quietly, function)


def _quietly(function: Callable[[], object]) -> None:
    """Call a function; it is the failure that is to be told."""
    with suppress(Exception):
        function()
