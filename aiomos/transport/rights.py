"""How a run gets the right to use interfaces: the one advice that errors, ``aiomos doctor`` and the documentation give.

A capability given to a file is had by everyone who may run that file, and for as long as the file is there. So it is
never given to the system's interpreter, which all programs share, but to a copy that its owner alone may run.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Self

import attrs

COPY = "python-live"


@attrs.frozen
class Interpreter:
    """The interpreter that runs this.

    Attributes:
        executable: Its file, links followed.
        environment: The virtual environment that it runs in; None outside of one.
    """

    executable: str
    environment: str | None

    @classmethod
    def current(cls) -> Self:
        """Look at the one that runs this."""
        own = sys.prefix if sys.prefix != sys.base_prefix else None
        return cls(os.path.realpath(sys.executable), own)

    def how_to_get(self, *capabilities: str) -> str:
        """Say what to do to have capabilities, such as ``CAP_NET_RAW``: one line, with commands for a shell.

        In a virtual environment the copy lies beside the interpreter, where it finds what is installed there. A copy
        that runs this already is given what it lacks.
        """
        place = Path(self.environment, "bin", COPY) if self.environment else Path.home() / COPY
        original, copy = shlex.quote(self.executable), shlex.quote(str(place))
        give = f"sudo setcap {','.join(capabilities).lower()}+ep {copy}"
        run = f"{copy} -m aiomos run ..."
        if self.executable == os.path.realpath(place):
            return f"run with sudo, or give this copy of the interpreter the right: {give}, then {run}"
        return (
            "run with sudo, or by a copy of the interpreter that has the right and that only you may run: "
            f"install -m 700 {original} {copy} && {give}, then {run}"
        )


def how_to_get(*capabilities: str) -> str:
    """Say what to do for this interpreter to have capabilities, such as ``CAP_NET_RAW``."""
    return Interpreter.current().how_to_get(*capabilities)
