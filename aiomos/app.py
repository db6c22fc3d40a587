"""Apps: what a middlebox is made of.

An `App` collects registrations: handlers for connections, callbacks for events, functions for start and end.
Each is checked when it is made. Neither engine nor transport is known here; `aiomos.runtime` joins them.
"""

import inspect
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, cast, get_args

import attrs

from aiomos.errors import OptionError, RegistrationError
from aiomos.options import build
from aiomos.tcp.levels import Level
from aiomos.ude.events import Event
from aiomos.ude.filters import Filter

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from aiomos.tcp.streams import MonitorConnection

    OptionsT = TypeVar("OptionsT", default=Any)
else:
    from typing import TypeVar

    OptionsT = TypeVar("OptionsT")

Handler: TypeAlias = "Callable[[MonitorConnection], Coroutine[Any, Any, None]]"
Callback: TypeAlias = Callable[..., None]
Lifecycle: TypeAlias = Callable[[], Awaitable[None]] | Callable[[], None]
Overlap: TypeAlias = Literal["first", "last", "bsd", "linux", "windows", "solaris"]
Gaps: TypeAlias = Literal["raise", "mark", "skip", "zero"]

HandlerT = TypeVar("HandlerT", bound=Handler)
LifecycleT = TypeVar("LifecycleT", bound=Lifecycle)

CALLBACK_PARAMETERS = ("flow", "time")


@attrs.frozen(eq=False, kw_only=True)
class MonitorRegistration:
    """A handler and the flows it is started for.

    Attributes:
        app: The app it belongs to.
        handler: Called once for each flow, with the connection.
        filter: Picks the flows, on the first packet of each.
        level: How much of each flow it follows.
        midstream: Whether flows whose handshake was not seen are handed over too.
        overlap: Which bytes count where segments overlap and differ, if it is the first to pick a flow.
        gaps: What reading past missing bytes does, unless a read says otherwise.
    """

    app: "App" = attrs.field(repr=False)
    handler: Handler
    filter: Filter
    level: Level
    midstream: bool
    overlap: Overlap
    gaps: Gaps


@attrs.define(eq=False, kw_only=True)
class CallbackRegistration:
    """A callback and the event it waits for; calling it calls the function.

    Attributes:
        app: The app it belongs to.
        event: The event.
        function: The callback.
        parameters: What it asked for, in the order of its parameters.
        filter: Picks the flows, on the first packet of each.
        level: How much of each flow the callback needs followed.
        midstream: Whether flows whose handshake was not seen count too.
        active: False once it is cancelled.
        on_cancel: Called when it is cancelled; the runtimes it is attached to add themselves.
    """

    app: "App" = attrs.field(repr=False)
    event: Event
    function: Callback
    parameters: tuple[str, ...]
    filter: Filter
    level: Level
    midstream: bool
    active: bool = True
    on_cancel: list[Callable[[], None]] = attrs.field(factory=list, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Call the function, as a test of the app may do."""
        self.function(*args, **kwargs)

    def cancel(self) -> None:
        """Stop the callback from being called, also while traffic runs; a second call does nothing."""
        if self.active:
            self.active = False
            self.app.callbacks.remove(self)
            for undo in self.on_cancel:
                undo()


@attrs.frozen(eq=False, kw_only=True)
class TrackRegistration:
    """Flows to be followed at a level although nothing is delivered.

    Attributes:
        app: The app it belongs to.
        filter: Picks the flows.
        level: How much of each flow is followed.
        midstream: Whether flows whose handshake was not seen count too.
    """

    app: "App" = attrs.field(repr=False)
    filter: Filter
    level: Level
    midstream: bool


class App(Generic[OptionsT]):
    """A middlebox application: its handlers, callbacks and options.

    Args:
        name: For logs and for ``--set NAME.option=value``; by default that of the module that makes the app.
        options: An attrs class of the app's options, each with a default unless the user must set it. Fields
            may be str, int, float, bool, Path, enums, Literal, these or None, and collections of these; the
            ``Attributes:`` section of the class docstring is the help text.

    Attributes:
        name: The app's name.
        module: Name of the module that made it.
        options_type: The attrs class, or None.
        monitors: Registrations of handlers, in the order of the wire from client to server.
        callbacks: Registrations of callbacks, in the same order.
        tracks: Registrations that only have flows followed.
        startup_functions: Called in this order before the first frame.
        shutdown_functions: Called in reverse order after the last handler has ended.
    """

    def __init__(self, name: str | None = None, *, options: type[OptionsT] | None = None) -> None:
        if options is not None and not attrs.has(options):
            raise RegistrationError(f"options must be an attrs class, not {options!r}")
        self.module: str = sys._getframe(1).f_globals.get("__name__", "app")
        self.name = name or self.module.rpartition(".")[2]
        self.options_type = options
        self.monitors: list[MonitorRegistration] = []
        self.callbacks: list[CallbackRegistration] = []
        self.tracks: list[TrackRegistration] = []
        self.startup_functions: list[Lifecycle] = []
        self.shutdown_functions: list[Lifecycle] = []
        self._options: OptionsT | None = None

    def __repr__(self) -> str:
        return f"<App {self.name}>"

    @property
    def options(self) -> OptionsT:
        """The options as configured, else their defaults; None when the app has none.

        Raises:
            OptionError: an option that must be set has not been.
        """
        if self._options is None:
            self.configure(())
        return cast("OptionsT", self._options)

    @options.setter
    def options(self, options: OptionsT) -> None:
        self._options = options

    def configure(self, pairs: Iterable[str]) -> None:
        """Set the options from ``name=value`` texts; those not named get their defaults.

        Args:
            pairs: Such as ``["out=/tmp/x", "ports=80,8080"]``; lists are separated by commas.

        Raises:
            OptionError: an unknown name, a value that is not allowed, or a needed option that is missing.
        """
        if self.options_type is not None:
            self._options = cast("OptionsT", build(self.options_type, pairs, owner=f"app {self.name}"))
        elif pairs := list(pairs):
            raise OptionError(f"app {self.name} has no options; {pairs[0]!r} cannot be set")

    def monitor(
        self,
        filter: str = "",  # noqa: A002  tcpdump's word for it, and ours
        *,
        level: Level = Level.STREAM,
        midstream: bool = False,
        overlap: Overlap = "first",
        gaps: Gaps = "raise",
    ) -> Callable[[HandlerT], HandlerT]:
        """Register an async function to be called once for each flow that the filter picks.

        At `Level.STREAM` it is called when the first bytes have come, or else at the flow's end, so that a flood of
        SYNs starts no handlers; below that level, after the flow's first packet.

        Args:
            filter: Connection filter, looked at on a flow's first packet; empty picks every TCP flow.
            level: How much of each flow the handler needs; less is cheaper.
            midstream: Whether to hand over flows whose handshake was not seen; their client is a guess.
            overlap: Which bytes count where segments overlap and differ: those that came ``first`` or
                ``last``, or those that hosts of an operating system would keep. Bytes are put in order once for
                all apps: the first handler that reads a flow's bytes decides for all of them.
            gaps: What reading past missing bytes does: ``raise`` `StreamGap`, yield a `Gap` to ``mark`` them,
                ``skip`` them, or give that many ``zero`` bytes.

        Returns:
            A decorator that gives the function back as it is, so decorators can be stacked.

        Raises:
            FilterSyntaxError: the filter cannot be read.
            RegistrationError: another argument, or the function, is not as above.
        """
        if not isinstance(filter, str):  # @app.monitor without its parentheses gives the function here
            raise RegistrationError(f"filter={filter!r}: must be text; for every flow write monitor()")
        _check_argument("level", level, tuple(Level))
        _check_argument("overlap", overlap, get_args(Overlap))
        _check_argument("gaps", gaps, get_args(Gaps))
        chosen = Filter(filter)

        def register(handler: HandlerT) -> HandlerT:
            _check_handler(handler)
            self.monitors.append(
                MonitorRegistration(
                    app=self,
                    handler=handler,
                    filter=chosen,
                    level=level,
                    midstream=midstream,
                    overlap=overlap,
                    gaps=gaps,
                )
            )
            return handler

        return register

    def on(
        self,
        event: Event,
        *,
        filter: str = "",  # noqa: A002  as in monitor()
        level: Level = Level.STATE,
        midstream: bool = False,
    ) -> Callable[[Callback], CallbackRegistration]:
        """Register a plain function to be called inside TCP processing, at the moment of an event.

        The function receives what it names, in any order: ``flow``, the `Flow`; ``time``, that of the packet at
        hand, in seconds. Once it has raised, it is not called again for that flow.

        Args:
            event: A built-in event.
            filter: Connection filter that picks the flows; empty picks every TCP flow.
            level: How much of each flow the callback needs followed; `Level.BYTES` for counters of bytes.
            midstream: Whether flows whose handshake was not seen count too; their client is a guess.

        Returns:
            A decorator that gives a registration in the function's place; calling it calls the function.

        Raises:
            FilterSyntaxError: the filter cannot be read.
            RegistrationError: *event* is no event, or the function cannot be a callback.
        """
        _check_argument("event", event, tuple(Event))
        _check_argument("level", level, tuple(Level))
        chosen = Filter(filter)

        def register(function: Callback) -> CallbackRegistration:
            registration = CallbackRegistration(
                app=self,
                event=event,
                function=function,
                parameters=_callback_parameters(function),
                filter=chosen,
                level=level,
                midstream=midstream,
            )
            self.callbacks.append(registration)
            return registration

        return register

    def track(
        self,
        filter: str = "",  # noqa: A002  as in monitor()
        *,
        level: Level = Level.STREAM,
        midstream: bool = False,
    ) -> None:
        """Have flows followed at a level without being told of them: other parts of the app look at them.

        Args:
            filter: Connection filter that picks the flows; empty picks every TCP flow.
            level: How much of each flow to follow.
            midstream: Whether to follow flows whose handshake was not seen.

        Raises:
            FilterSyntaxError: the filter cannot be read.
            RegistrationError: *level* is no level.
        """
        _check_argument("level", level, tuple(Level))
        self.tracks.append(
            TrackRegistration(app=self, filter=Filter(filter), level=level, midstream=midstream)
        )

    def startup(self, function: LifecycleT) -> LifecycleT:
        """Register a function without parameters, plain or async, to be called before the first frame."""
        self.startup_functions.append(_check_lifecycle(function))
        return function

    def shutdown(self, function: LifecycleT) -> LifecycleT:
        """Register a function without parameters, plain or async, to be called after the last handler ended.

        It is called on every way out of a run once all start-up functions have returned.
        """
        self.shutdown_functions.append(_check_lifecycle(function))
        return function


def _check_argument(name: str, value: object, allowed: tuple[object, ...]) -> None:
    # A Level is also an int, but a bare 3 tells a reader nothing, so the type counts.
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        choices = ", ".join(
            f"{type(choice).__name__}.{choice.name}" if isinstance(choice, Enum) else repr(choice)
            for choice in allowed
        )
        raise RegistrationError(f"{name}={value!r}: must be one of {choices}")


def _check_handler(handler: object) -> None:
    where = _place(handler)
    if inspect.isasyncgenfunction(handler):
        raise RegistrationError(f"{where}: a handler must not yield")
    if not inspect.iscoroutinefunction(handler):
        raise RegistrationError(f"{where}: a handler must be an async function (async def)")
    if not _takes(handler, 1):
        raise RegistrationError(f"{where}: a handler must take one positional argument, the connection")


def _callback_parameters(function: Callback) -> tuple[str, ...]:
    where = _place(function)
    if not callable(function) or inspect.isclass(function):
        raise RegistrationError(f"{where}: a callback must be a function")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(
            f"{where}: a callback runs inside TCP processing and cannot wait: make it a plain function, or "
            "register a handler with App.monitor"
        )
    parameters = inspect.signature(function).parameters
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            raise RegistrationError(f"{where}: parameter {parameter} must be an ordinary one, without *")
        if name not in CALLBACK_PARAMETERS:
            offered = ", ".join(CALLBACK_PARAMETERS)
            raise RegistrationError(f"{where}: unknown parameter {name!r}; a callback can ask for {offered}")
    return tuple(parameters)


def _check_lifecycle(function: LifecycleT) -> LifecycleT:
    if not callable(function) or not _takes(function, 0):
        raise RegistrationError(
            f"{_place(function)}: must be a function that can be called without arguments"
        )
    return function


def _takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with so many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def _place(function: object) -> str:
    """Name a function for a message, as ``module.function``."""
    name = getattr(function, "__qualname__", None)
    return f"{getattr(function, '__module__', '?')}.{name}" if name else repr(function)
