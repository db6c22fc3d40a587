"""Interrupts: how long a run may take to end once it is to, what it waits for, and its end by force."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from aiomos import outputs
from aiomos.logging import get_logger

if TYPE_CHECKING:
    from aiomos.runtime.runtime import Runtime

SAME_SIGNAL_SECONDS = 0.3
"""How long further signals are taken for the first one: terminal and parent may both pass on a Ctrl-C."""

TELL_SECONDS = 0.5
"""A run that ends within this says nothing of what it waits for."""

ANSWER_SECONDS = 0.2
"""An event loop that does not get round to a call in so long is held up by code that does not wait."""

FORCE_SECONDS = 1.0
"""How long handlers that were cancelled, and shut-down functions, may take before the process is ended by force."""

FAILED = 1

LIBRARIES = (str(Path(asyncio.__file__).parent), str(Path(__file__).parent))

on_leave: list[Callable[[], object]] = []
"""Called when the process ends by force: what puts a terminal back."""


class Bound:
    """Bounds the end of a run, once a signal has asked for it, in a ``with`` block: for who owns the process.

    The first signal does what it did, or what `first` says; it is logged what the run waits for. After the grace
    its handlers are cancelled, and soon after the process ends, whatever it does. A second signal ends it at once.

    Args:
        grace: Seconds.
        numbers: The signals.

    Attributes:
        runtime: The run, once there is one.
        first: Called in the event loop by the first signal; None for what the signal did before.
    """

    def __init__(self, grace: float, numbers: Sequence[signal.Signals]) -> None:
        self.runtime: Runtime | None = None
        self.first: Callable[[], object] | None = None
        self._grace = grace
        self._numbers = numbers
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._over = threading.Event()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                self._before[number] = signal.getsignal(number)
                signal.signal(number, self._handle)
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._over.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        before = self._before[signal.Signals(number)]
        if self._since is not None:
            if now - self._since > SAME_SIGNAL_SECONDS:
                leave(128 + number)
            return
        if self.first is None and not callable(before):  # nothing has begun that could be ended in good order
            leave(128 + number)
        self._since = now
        threading.Thread(target=self._watch, daemon=True).start()
        if self.first is not None:
            self._loop.call_soon_threadsafe(self.first)
        else:
            before(number, frame)

    def _watch(self) -> None:
        log = get_logger("aiomos")
        if self._over.wait(min(TELL_SECONDS, self._grace)):
            return
        left = max(self._grace - TELL_SECONDS, 0.0)
        log.warning(
            "ending", waits_for=self._waits_for(), at_most_seconds=left, note="Ctrl-C again ends it at once"
        )
        if self._over.wait(left):
            return
        if self.runtime is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.runtime.cut_short)
        if self._over.wait(FORCE_SECONDS):
            return
        log.error("ended_by_force", waited_for=self._waits_for())
        leave(FAILED)

    def _waits_for(self) -> str:
        if (place := self._held_up_at()) is not None:
            return f"code that does not wait: {place}"
        return self.runtime.waits_for() if self.runtime is not None else "start-up functions"

    def _held_up_at(self) -> str | None:
        """Where the event loop's thread is, if it does not answer."""
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:
            return None
        if answered.wait(ANSWER_SECONDS):
            return None
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        return None if frame is None else describe(frame)


def describe(frame: FrameType) -> str:
    """Say where a frame is."""
    return f"{frame.f_code.co_name} in {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def describe_tasks(tasks: "Mapping[str, set[asyncio.Task[None]]]") -> str:
    """Say how many handlers of which app there are, and where most of them wait."""
    said = []
    for name, handlers in tasks.items():
        if handlers:
            places = Counter(filter(None, map(_place, handlers)))
            most = f", most at {places.most_common(1)[0][0]}" if places else ""
            said.append(f"{len(handlers)} handler{'s' * (len(handlers) != 1)} of {name}{most}")
    return "; ".join(said) or "shut-down functions"


def _place(task: "asyncio.Task[None]") -> str:
    """Say where in its app a handler waits: the innermost place that is neither of asyncio nor of aiomos."""
    place = ""
    waits: Any = task.get_coro()
    while (frame := getattr(waits, "cr_frame", None)) is not None:
        if not frame.f_code.co_filename.startswith(LIBRARIES):
            place = describe(frame)
        waits = waits.cr_await
    return place


def leave(status: int) -> None:
    """End the process at once, with what was written so far."""
    for function in on_leave:
        with suppress(Exception):
            function()
    outputs.flush_all()
    os._exit(status)
