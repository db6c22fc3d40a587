"""Signals during a run: what a program had them do, they do again afterwards."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handled(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[Callable[[], None]]:
    """For the length of a ``with`` block, have signals call functions in the running event loop.

    What they did before, by `signal.signal` or by `loop.add_signal_handler`, is put back; handlers that the program
    gave to this loop are called besides. Outside of the main thread, where Python has no signals, nothing happens.

    Args:
        handlers: What to call for each signal; one that is handled by code not of Python stays with that.

    Yields:
        What puts all back at once, before the end of the block.
    """
    before: dict[signal.Signals, Callable[[int, FrameType | None], object] | int] = {}

    def put_back() -> None:
        while before:
            number, handler = before.popitem()
            signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        for number, function in handlers.items():
            previous = signal.getsignal(number)
            if previous is not None:
                before[number] = previous
                signal.signal(number, _calling(loop, function))
    try:
        yield put_back
    finally:
        put_back()


def _calling(
    loop: asyncio.AbstractEventLoop, function: Callable[[], object]
) -> Callable[[int, FrameType | None], None]:
    # Not loop.add_signal_handler(): a loop has one handler a signal, and cannot tell which it was.
    def handler(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(function)

    return handler
