"""Keys that are pressed while an app draws upon a terminal."""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Mapping

from aiomos.runtime.interrupts import on_leave


class Keys:
    """Call a function for each key that is pressed, without waiting for a new line; Ctrl-C does what it did.

    The terminal is opened anew: the event loop makes what it reads non-blocking, which standard output may share.

    Args:
        functions: By key.

    Raises:
        OSError: this process has no terminal.
    """

    def __init__(self, functions: Mapping[str, Callable[[], object]]) -> None:
        self._functions = functions
        self._loop = asyncio.get_running_loop()
        self._terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        self._before = termios.tcgetattr(self._terminal)
        tty.setcbreak(self._terminal)
        on_leave.append(self._put_back)
        self._loop.add_reader(self._terminal, self._read)

    def _read(self) -> None:
        for key in os.read(self._terminal, 64).decode(errors="replace"):
            if key in self._functions:
                self._functions[key]()

    def _put_back(self) -> None:
        termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._loop.remove_reader(self._terminal)
        on_leave.remove(self._put_back)
        self._put_back()
        os.close(self._terminal)


def listen(functions: Mapping[str, Callable[[], object]]) -> Keys | None:
    """Listen for keys, where a person can press them: in the foreground, with a keyboard as standard input."""
    try:
        if sys.stdin is None or not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return None
        return Keys(functions)
    except OSError:
        return None
