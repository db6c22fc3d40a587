"""Every public exception.

::

    AiomosError
    │   you called it wrongly: raised at the call
    ├── FilterSyntaxError   (ValueError)            text of a connection filter
    ├── OptionError         (ValueError)            option of an app, or setting of aiomos
    ├── RegistrationError   (TypeError)             handler or callback given to an App
    ├── AppLoadError        (ImportError)           name of an app on the command line
    ├── StalePacketError    (RuntimeError)          packet kept beyond its callback
    ├── FlowClosed          (RuntimeError)          flow that has ended
    ├── NotInLineError      (RuntimeError)          packet that is only watched, not passed on
    ├── SessionError        (ValueError)            session that cannot be made
    ├── ControlError        (OSError)               control socket, or command sent to it
    │   the peer, the path or a budget did it: raised where the stream is read
    ├── StreamGap           (OSError)               bytes that will not come
    ├── ConnectionReset     (ConnectionResetError)  RST
    ├── ConnectionTimedOut  (TimeoutError)          silence
    ├── ConnectionEvicted   (ConnectionError)       budget
    │   the input did it: raised from the run
    ├── CaptureError        (ValueError)            capture file
    ├── TransportError      (OSError)               interface, or the right to use it
    ├── WorkerError         (ChildProcessError)     worker process that dies
    ├── OutputError         (OSError)               file, or standard output, that an app writes to
    │   aiomos did it
    └── EngineBug           (SystemError)           broken promise inside the engine

Each leaf also derives from the builtin that code written for asyncio already catches; ``except OSError``
covers all that can happen to a connection on its way. Malformed frames raise nothing; they are counted by
kind.
"""

# The names say what happened, as those of asyncio's neighbours trio and anyio do; not all of it is an error.
# ruff: noqa: N818

from collections.abc import Callable, Iterable
from errno import EDQUOT, EFBIG, EMFILE, ENFILE, ENOSPC, EPIPE
from functools import partial
from os import PathLike, fspath
from typing import Any, ClassVar


class AiomosError(Exception):
    """Base of every exception that aiomos raises on purpose.

    Args:
        message: What happened and what to do; a leaf that always means one thing has a text of its own.
        flow: The flow it happened on; its ``str``, ``10.0.0.1:4242 -> 10.0.0.2:80``, opens the message.

    Attributes:
        flow: That text, or None. The flow itself is not kept alive.
    """

    summary: ClassVar[str] = ""

    def __init__(self, message: str = "", *, flow: object = None) -> None:
        self.flow: str | None = None if flow is None else str(flow)
        message = message or self.summary
        super().__init__(message if self.flow is None else f"{self.flow}: {message}")

    def __reduce__(self) -> tuple[Callable[..., "AiomosError"], tuple[Any, ...]]:
        """Pickle past the constructor, whose keywords ``args`` lacks, so that errors can leave a worker."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(cls: type[AiomosError], args: tuple[Any, ...], state: dict[str, Any]) -> AiomosError:
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """End an error message with the one of *known* that is spelt most like *word*, if any is."""
    import difflib  # which takes its time, and is needed for no run that goes well

    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class FilterSyntaxError(AiomosError, ValueError):
    """A connection filter cannot be read; raised where it is given, never at a packet.

    A filter that is well-formed but given to the wrong decorator is a `RegistrationError`.

    Args:
        message: What is wrong at that place, and what would be right.
        text: The whole filter.
        column: Place in *text*, 1 for its first character; one past the end for "more expected".

    Attributes:
        text: The whole filter.
        column: Place in it, from 1.
    """

    def __init__(self, message: str, *, text: str, column: int) -> None:
        self.text = text
        self.column = column
        on_one_line = "".join(" " if char.isspace() else char for char in text)
        super().__init__(f"{message}\n  {on_one_line}\n  {'^':>{max(column, 1)}}")


class OptionError(AiomosError, ValueError):
    """An option of an app or a setting of aiomos has an unknown name or a value that is not allowed.

    The message names it, the value and what is allowed. Raised before any frame is read.
    """


class RegistrationError(AiomosError, TypeError):
    """A function cannot be what a decorator would make of it: a handler, a callback, a start-up function.

    Raised while the app's module is imported, naming the function and the parameter. A filter that cannot be
    read is a `FilterSyntaxError`.
    """


class AppLoadError(AiomosError, ImportError):
    """The name of an app leads to no `App`: no such module, no such attribute, or something else there.

    An exception that the module itself raises while it is imported is passed on as it is: its traceback tells
    where the module is wrong.
    """


class StreamGap(AiomosError, OSError):
    """Bytes are missing from a half and will not come; the half goes on behind them.

    Raised once a gap, by the read that would have returned the bytes; the next read continues after it.
    A connection that ended, rather than lost some bytes, is one of the other stream errors.

    Args:
        offset: First missing byte, counted from the half's first data byte, which is 0.
        length: Number of missing bytes, > 0.
        reason: Why they were given up.
        side: Whose bytes they are: ``client`` or ``server``.
        flow: The flow.

    Attributes:
        offset: First missing byte.
        length: Number of missing bytes.
        reason: Why they were given up.
        side: Whose bytes they are.
    """

    def __init__(
        self, *, offset: int, length: int, reason: str, side: str | None = None, flow: object = None
    ) -> None:
        self.offset = offset
        self.length = length
        self.reason = reason
        self.side = side
        sender = "" if side is None else f" from the {side}"
        super().__init__(
            f"{length} bytes{sender} missing at offset {offset}: {reason} "
            "(read on to continue behind them, or choose gaps='mark', 'skip' or 'zero')",
            flow=flow,
        )


class ConnectionReset(AiomosError, ConnectionResetError):
    """A valid RST ended the connection.

    Bytes that were in order before it are delivered first. An RST that fails the checks of RFC 5961 is only
    counted; a connection that fell silent is `ConnectionTimedOut`.
    """

    summary = "the connection was reset"


class ConnectionTimedOut(AiomosError, TimeoutError):
    """No packet of the flow was seen for the time-out of its state (`Timeouts`), so it is taken for dead.

    `ConnectionEvicted` is the end of a flow that may well be alive.
    """

    summary = "no packet within the time-out of the flow's state"


class ConnectionEvicted(AiomosError, ConnectionError):
    """The flow was given up because a budget was used up, though the connection itself may go on.

    That is ``flows`` or ``half_open`` of `Budgets`; the message does not say which. A flow given up for its
    silence is `ConnectionTimedOut`.
    """

    summary = "the flow was evicted to stay within a budget"


class StalePacketError(AiomosError, RuntimeError):
    """A packet was looked at after its callback had returned.

    When: any attribute of a `Packet` that a callback kept.

    Remedy: keep ``pkt.copy()`` instead, made inside the callback.
    """

    summary = "the packet is gone: callbacks see it only while they run; keep pkt.copy() instead"


class FlowClosed(AiomosError, RuntimeError):
    """Something was asked of a flow that has ended.

    When: `Flow.timer`, `MonitorConnection.on` and `App.emit`, once the flow's end has been told.

    Remedy: ask earlier, or look at ``flow.reason`` first.
    """

    summary = "the flow has ended"


class NotInLineError(AiomosError, RuntimeError):
    """A packet was to be dropped, changed or sent where that is not possible.

    When: a verdict such as `Packet.drop` where traffic is only watched; ``engine.send`` offline.

    Remedy: run in line, ``aiomos run ... --bridge A B``.
    """

    summary = "packets can be dropped and changed only in line: aiomos run ... --bridge A B"


class SessionError(AiomosError, ValueError):
    """A session cannot be made of a packet, or has ended.

    When: `Packet.session`, for a packet that is not of TCP, UDP or ICMP echo, or with addresses whose replies belong to
    another session, or at the budget; asking an ended session for what only an open one has.

    Remedy: choose other addresses or ports; ``budgets.sessions``.
    """

    summary = "the session has ended"


class TransportError(AiomosError, OSError):
    """A transport cannot be opened, or its wire is gone for good.

    When: no such interface, no right to open it, or an interface that was removed while it was watched.

    Remedy: the message says it; ``aiomos doctor`` looks at what a live run needs.
    """


class CaptureError(AiomosError, ValueError):
    """A capture cannot be read on from some place: cut short, corrupt, or in no known format.

    Raised once the frames before that place have been processed. A file that cannot be opened is the
    operating system's own `OSError`; a frame that is whole but malformed inside is only counted.

    Args:
        message: What is wrong at that place.
        path: The capture; ``-`` for standard input.
        offset: Place in the (decompressed) file, in bytes.
        frames: Frames read before it.

    Attributes:
        path: The capture.
        offset: Place in it, in bytes.
        frames: Frames read before it.
    """

    def __init__(self, message: str, *, path: str | PathLike[str], offset: int, frames: int) -> None:
        self.path: str = fspath(path)
        self.offset = offset
        self.frames = frames
        super().__init__(f"{self.path}: {message} (at byte {offset}, after {frames} frames)")


class WorkerError(AiomosError, ChildProcessError):
    """A worker died again and again, or did not end when it was asked to; raised from the run.

    What a worker itself fails with, such as a `CaptureError`, is raised as it is.
    """


class OutputError(AiomosError, OSError):
    """What an app writes cannot be written: a full disk, a pipe that nobody reads any more, too many open files.

    Raised from the run, which it ends: what was written before is there, what came after is not. In line, frames are
    passed on until the run ends by itself. A file that cannot be opened at the start is the operating system's own
    `OSError`.

    Args:
        message: What happened, and what to do.
        path: The file, or ``standard output``.
        number: Number of the system's error, of `errno`.

    Attributes:
        path: The file, or ``standard output``.
        errno: Number of the system's error.
    """

    def __init__(self, message: str, *, path: str | PathLike[str], number: int | None) -> None:
        super().__init__(message)
        self.path: str = fspath(path)
        self.errno = number

    def __reduce__(self) -> tuple[Callable[..., AiomosError], tuple[Any, ...]]:
        """Pickle with the number, which `OSError` does not keep among its attributes."""
        return partial(type(self), path=self.path, number=self.errno), self.args

    @classmethod
    def of(cls, path: str | PathLike[str], error: OSError) -> "OutputError":
        """Make one of what the system says of a file."""
        advice = ADVICE.get(error.errno or 0, "")
        said = f"{fspath(path)}: {error.strerror or error}; what comes after the failure is not written"
        return cls(f"{said}: {advice}" if advice else said, path=path, number=error.errno)


ADVICE = {
    ENOSPC: "make room there, or write elsewhere, and run again",
    EDQUOT: "make room there, or write elsewhere, and run again",
    EFBIG: "raise the limit (ulimit -f), and run again",
    EMFILE: "raise the limit of open files (ulimit -n), and run again",
    ENFILE: "raise the system's limit of open files (sysctl fs.file-max), and run again",
    EPIPE: "who read it has gone",
}
"""What to do about errors of the system, by their number."""


class ControlError(AiomosError, OSError):
    """A control socket cannot be used, or the run behind it refused a command.

    The message says which, and what to do. A command that was refused has changed nothing in the run.
    """


class EngineBug(AiomosError, SystemError):
    """The engine broke a promise it makes to itself: a defect of aiomos, never of the app or the traffic."""

    def __init__(self, message: str, *, flow: object = None) -> None:
        super().__init__(
            f"{message}; this is a bug in aiomos: please report it, with this traceback and, if possible, "
            "the traffic that led to it",
            flow=flow,
        )
