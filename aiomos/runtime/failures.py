"""What apps raise, and what of it ends the run."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from aiomos.errors import OutputError
from aiomos.face.views import Flow
from aiomos.logging import get_logger
from aiomos.outputs import MACHINE_ERRORS, STANDARD_OUTPUT, reader_is_gone, running
from aiomos.ude.parameters import place

LOGGED_ERRORS = 10
"""Exceptions of one app's handlers or callbacks that are logged; more are only counted."""


class Failures:
    """Exceptions of handlers and callbacks, outputs that are lost, and how the run is to end for them.

    Args:
        on_error: Whether an exception of an app ends the run (``raise``) or only its interest in the flow (``log``).
        frames_go_on: Whether frames are to be passed on although an app's output is lost.
        stop: Called when the run is to end early.
        attend: Called when the pump is to see that the run ends with an exception.

    Attributes:
        counts: How often what has happened, for the run's counters.
    """

    def __init__(
        self,
        *,
        on_error: Literal["log", "raise"],
        frames_go_on: bool,
        stop: Callable[[], object],
        attend: Callable[[], object],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._raises = on_error == "raise"
        self._frames_go_on = frames_go_on
        self._stop = stop
        self._attend = attend
        self._logged: Counter[object] = Counter()
        self._fatal: BaseException | None = None
        self._lost: list[OSError] = []

    # --- what ends the run ----------------------------------------------------------------------------

    @property
    def end_run(self) -> bool:
        """Whether the run is to end with an exception."""
        return self._fatal is not None

    @property
    def ends_program(self) -> bool:
        """Whether that exception is none that a program goes on after."""
        return not isinstance(self._fatal, Exception | None)

    def end_with(self, error: BaseException) -> None:
        """Have the run end, in good order, with an exception; of several, with the first."""
        self._fatal = self._fatal or error
        self._attend()

    def check(self) -> None:
        """Raise what is to end the run, if anything is."""
        if self._fatal is not None:
            raise self._fatal

    def check_outputs(self) -> None:
        """Raise what has become of an app's output, if it is lost: at the end, when all else is done."""
        if self._lost:
            raise self._lost[0]

    # --- what apps raise ------------------------------------------------------------------------------

    def of_handler(self, app: str, flow: Flow, error: BaseException) -> None:
        """A handler has raised."""
        self._of_app("handler", app, flow, error)

    def of_callback(self, callback: Callable[..., object], flow: Flow | None, error: Exception) -> None:
        """A callback has raised; what is to end the run is raised through the engine."""
        self._of_app("callback", place(callback), flow, error)
        self.check()

    def _of_app(self, what: str, app: str, flow: Flow | None, error: BaseException) -> None:
        """An app raised: that is the end of its interest in this flow, and of nothing else."""
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            error = OutputError.of(STANDARD_OUTPUT, error)
        if isinstance(error, OutputError):
            self.of_output(error)
            return
        self.counts[f"{what}_errors"] += 1
        self._logged[app] += 1
        if self._raises:
            self.end_with(error)
            return
        if isinstance(error, OSError) and error.errno in MACHINE_ERRORS:
            self._lost.append(error)
        log = get_logger("aiomos").bind(app=str(app))
        if self._logged[app] <= LOGGED_ERRORS:
            log.error(f"{what}_failed", flow=str(flow), exc_info=error)
        if self._logged[app] == LOGGED_ERRORS:
            log.error(f"{what}_fails_often", note="more of its exceptions are counted, not logged")

    # --- outputs --------------------------------------------------------------------------------------

    def of_output(self, error: OutputError) -> None:
        """Have the run end early, for what an app writes is lost; in line frames go on, and it fails at its end."""
        if error in self._lost:
            return
        self._lost.append(error)
        if self._frames_go_on:
            get_logger("aiomos").error("output_failed", error=str(error), note="frames are passed on")
        else:
            self._stop()

    def listen(self) -> None:
        """Be told of outputs that fail in threads of an app's own, until `close`."""
        self._loop = asyncio.get_running_loop()
        running.append(self._of_output_elsewhere)

    def close(self) -> None:
        """Undo `listen`."""
        running.remove(self._of_output_elsewhere)

    def _of_output_elsewhere(self, error: OutputError) -> None:
        """Have the loop's thread know, whichever finds out."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.of_output, error)
