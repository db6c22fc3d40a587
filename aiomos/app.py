"""Apps: what a middlebox is made of.

An `App` collects registrations: handlers for connections, callbacks for events, functions for start and end.
Each is checked when it is made. Neither engine nor transport is known here; `aiomos.runtime` joins them.
"""

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict, cast, get_args

import attrs

from aiomos.errors import OptionError, RegistrationError
from aiomos.levels import Level
from aiomos.options import build
from aiomos.registrations import (
    Callback,
    CallbackRegistration,
    Gaps,
    Handler,
    MonitorRegistration,
    Overlap,
    Registration,
    TrackRegistration,
    Urgent,
)
from aiomos.ude.events import Event, Hook
from aiomos.ude.filters import Filter
from aiomos.ude.locating import located
from aiomos.ude.parameters import callback_parameters, place
from aiomos.ude.user import AnyEvent, Predicate, UserEvent, check_filter
from aiomos.ude.user import event as free_event
from aiomos.ude.user import ude as free_ude

__all__ = ["App", "Callback", "Gaps", "Handler", "Overlap", "Urgent", "asks_for_engine"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from aiomos.face.views import Flow
    from aiomos.runtime.runtime import Runtime

    OptionsT = TypeVar("OptionsT", default=Any)
else:
    from typing import TypeVar

    OptionsT = TypeVar("OptionsT")

Lifecycle: TypeAlias = "Callable[[], Awaitable[None] | None] | Callable[[Runtime], Awaitable[None] | None]"

HandlerT = TypeVar("HandlerT", bound=Handler)
LifecycleT = TypeVar("LifecycleT", bound=Lifecycle)
RegistrationT = TypeVar("RegistrationT", bound=Registration)


class _Flows(TypedDict):
    """What every registration says of its flows."""

    app: "App"
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
        one_worker: Whether all traffic must come to one process, so that ``--workers`` is refused.

    Attributes:
        name: The app's name.
        module: Name of the module that made it.
        options_type: The attrs class, or None.
        one_worker: Whether it cannot be shared out among workers.
        monitors: Registrations of handlers, in the order of the wire from client to server.
        callbacks: Registrations of callbacks, in the same order.
        tracks: Registrations that only have flows followed.
        udes: User-defined events that the app has defined.
        runtimes: Where it is attached; registrations made meanwhile count from then on.
        startup_functions: Called in this order before the first frame.
        shutdown_functions: Called in reverse order after the last handler has ended.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        options: type[OptionsT] | None = None,
        one_worker: bool = False,
    ) -> None:
        if options is not None and not attrs.has(options):
            raise RegistrationError(f"options must be an attrs class, not {options!r}")
        self.module: str = sys._getframe(1).f_globals.get("__name__", "app")
        self.name: str = name or self.module.rpartition(".")[2]
        self.options_type = options
        self.one_worker = one_worker
        self.monitors: list[MonitorRegistration] = []
        self.callbacks: list[CallbackRegistration] = []
        self.tracks: list[TrackRegistration] = []
        self.udes: list[UserEvent] = []
        self.runtimes: list[Runtime] = []
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

    # --- registrations ----------------------------------------------------------------------------------

    @property
    def registrations(self) -> list[Registration]:
        """All that is registered for flows, in the order in which it counts."""
        return [*self.monitors, *self.callbacks, *self.tracks]

    def checkpoint(self) -> Callable[[], None]:
        """Note what is registered for flows; return what has the app be registered for just that again."""
        lists: tuple[list[Any], ...] = (self.monitors, self.callbacks, self.tracks)
        noted = [(registered, list(registered)) for registered in lists]

        def put_back() -> None:
            for registered, before in noted:
                registered[:] = before

        return put_back

    def _flows(self, chosen: str, level: Level, midstream: bool) -> _Flows:
        """Check which flows a registration is about, and how much of each."""
        _check_argument("level", level, tuple(Level))
        return {"app": self, "filter": Filter(chosen), "level": level, "midstream": midstream}

    def _register(self, registered: list[RegistrationT], registration: RegistrationT) -> None:
        """Have a registration count, from now on where the app is attached."""
        registered.append(registration)
        for runtime in self.runtimes:
            runtime.install(registration)

    @located()
    def monitor(
        self,
        filter: str = "",  # noqa: A002  tcpdump's word for it, and ours
        *,
        level: Level = Level.STREAM,
        midstream: bool = False,
        overlap: Overlap = "first",
        gaps: Gaps = "raise",
        urgent: Urgent = "inline",
        start: "AnyEvent | None" = None,
    ) -> Callable[[HandlerT], HandlerT]:
        """Register an async function to be called once for each flow that the filter picks.

        At `Level.STREAM` it is called when the first bytes have come, or else at the flow's end; below that level, once
        the connection is established. For a flow that is never established and never carries a byte, such as one that
        is refused, it is not called at all, so that a flood of SYNs starts no handlers. ``start=CONN_START`` has it
        called for these, too, and so early; callbacks see them in any case.

        Args:
            filter: Connection filter, looked at on a flow's first packet; empty picks every TCP flow.
            level: How much of each flow the handler needs; less is cheaper.
            midstream: Whether to hand over flows whose handshake was not seen; their client is a guess.
            overlap: Which bytes count where segments overlap and differ: those that came ``first`` or
                ``last``, or those that hosts of an operating system would keep. Bytes are put in order once for
                all apps: the first handler that reads a flow's bytes decides for all of them.
            gaps: What reading past missing bytes does: ``raise`` `StreamGap`, yield a `Gap` to ``mark`` them,
                ``skip`` them, or give that many ``zero`` bytes.
            urgent: What becomes of urgent bytes (RFC 9293 section 3.8.5): ``inline`` gives them at their place, as a
                reader with SO_OOBINLINE has them; ``out_of_band`` leaves them out, as Linux does for one without it
                that keeps up. Each registration has what it chose, whatever others on the flow have.
            start: Call the function only once this event has happened on a flow. Both halves are kept until then
                (`Budgets.kept_bytes_half`), so that the function reads them from the beginning; what was more is a gap.

        Returns:
            A decorator that gives the function back as it is, so decorators can be stacked.

        Raises:
            FilterSyntaxError: the filter cannot be read.
            RegistrationError: another argument, or the function, is not as above.
        """
        if not isinstance(filter, str):  # @app.monitor without its parentheses gives the function here
            raise RegistrationError(f"filter={filter!r}: must be text; for every flow write monitor()")
        flows = self._flows(filter, level, midstream)
        _check_argument("overlap", overlap, get_args(Overlap))
        _check_argument("gaps", gaps, get_args(Gaps))
        _check_argument("urgent", urgent, get_args(Urgent))
        if start is not None:
            _check_event("start", start)
            if urgent != "inline":
                raise RegistrationError(
                    f"urgent={urgent!r}: with start= bytes that were kept have their urgent ones"
                )

        @located()
        def register(handler: HandlerT) -> HandlerT:
            _check_handler(handler)
            self._register(
                self.monitors,
                MonitorRegistration(
                    **flows, handler=handler, overlap=overlap, gaps=gaps, urgent=urgent, start=start
                ),
            )
            return handler

        return register

    @located()
    def on(
        self,
        event: AnyEvent,
        *,
        filter: str = "",  # noqa: A002  as in monitor()
        hook: Hook = Hook.RECEIVER,
        level: Level | None = None,
        midstream: bool = False,
        edits: bool | None = None,
    ) -> "Callable[[Callback | CallbackRegistration], CallbackRegistration]":
        """Register a plain function to be called inside TCP processing, at the moment of an event.

        The function receives what it names, in any order: ``pkt``, the `Packet`; ``flow``, the `Flow`; ``half``, that
        of the packet's sender or which the event is about; ``side``, its name; ``time``, that of the packet at hand,
        in seconds; ``event``, the `Occurrence` with the facts of the event; ``engine``, the `Runtime` that the app is
        attached to. Once it has raised, it is not called again for that flow.

        Args:
            event: A built-in or user-defined event.
            filter: Connection filter that picks the flows; empty picks every TCP flow.
            hook: Where in the processing of a packet, for events that have a choice.
            level: How much of each flow the callback needs followed; by default the least at which the event exists.
                Counters of bytes need `Level.BYTES`.
            midstream: Whether flows whose handshake was not seen count too; their client is a guess.
            edits: Whether the function may call `Packet.replace` on these flows, which are then kept in order from
                their start, and have no options that would not bear it. By default that is told by its code, and that
                of functions which it names: whether ``replace`` is mentioned there.

        Returns:
            A decorator that gives a registration in the function's place; calling it calls the function.

        Raises:
            FilterSyntaxError: the filter cannot be read.
            RegistrationError: *event* is no event or not raised at *hook*, the function cannot be a callback, or the
                filter asks for what that event does not have.
        """
        _check_event("event", event)
        _check_argument("hook", hook, tuple(Hook))
        if level is not None:
            _check_argument("level", level, tuple(Level))
        if edits is not None:
            _check_argument("edits", edits, (True, False))
        if hook not in event.hooks:
            choices = ", ".join(f"Hook.{choice.name}" for choice in event.hooks)
            raise RegistrationError(f"hook=Hook.{hook.name}: {event.name} is raised at {choices}")
        flows = self._flows(filter, max(event.level, level or Level.STATE), midstream)
        check_filter(event.root if isinstance(event, UserEvent) else event, flows["filter"])

        @located()
        def register(function: Callback | CallbackRegistration) -> CallbackRegistration:
            if isinstance(function, CallbackRegistration):  # decorators can be stacked
                function = function.function
            registration = CallbackRegistration(
                **flows,
                event=event,
                hook=hook,
                function=function,
                parameters=callback_parameters(function),
                edits=edits,
            )
            self._register(self.callbacks, registration)
            return registration

        return register

    def ude(
        self,
        base: AnyEvent,
        *,
        filter: str = "",  # noqa: A002  as in monitor()
        native: bool = False,
        once: bool = False,
        name: str | None = None,
    ) -> Callable[[Predicate], UserEvent]:
        """Define an event of this app by a predicate over another event; see `aiomos.ude.ude`."""
        define = free_ude(base, filter=filter, native=native, once=once, name=name)

        def register(predicate: Predicate) -> UserEvent:
            self.udes.append(define(predicate))
            return self.udes[-1]

        return register

    def event(self, name: str) -> UserEvent:
        """Make an event that is only raised by hand, by `emit`."""
        self.udes.append(free_event(name))
        return self.udes[-1]

    def emit(self, event: UserEvent, flow: "Flow") -> None:
        """Raise a user-defined event on a flow by hand: callbacks for it run now, then events upon it are looked at.

        Args:
            event: The event; its own predicate is not asked.
            flow: The flow, as a callback or handler of this app has it.

        Raises:
            FlowClosed: the flow has ended.
            RegistrationError: *event* is not user-defined.
        """
        if not isinstance(event, UserEvent):
            raise RegistrationError(f"{event!r} is not user-defined; only such events are raised by hand")
        flow.emit(event)

    @located()
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
        self._register(self.tracks, TrackRegistration(**self._flows(filter, level, midstream)))

    @located()
    def startup(self, function: LifecycleT) -> LifecycleT:
        """Register a function, plain or async, to be called before the first frame.

        If it names a parameter ``engine``, it receives the `Runtime` that the app is attached to; it has no others.
        """
        self.startup_functions.append(_check_lifecycle(function))
        return function

    @located()
    def shutdown(self, function: LifecycleT) -> LifecycleT:
        """Register a function, plain or async, to be called after the last handler ended.

        It is called on every way out of a run once all start-up functions have returned. It may name ``engine``, as
        `startup` says.
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
    where = place(handler)
    if inspect.isasyncgenfunction(handler):
        raise RegistrationError(f"{where}: a handler must not yield")
    if not inspect.iscoroutinefunction(handler):
        raise RegistrationError(f"{where}: a handler must be an async function (async def)")
    if not _takes(handler, object()):
        raise RegistrationError(f"{where}: a handler must take one positional argument, the connection")


def _check_event(name: str, event: object) -> None:
    if not isinstance(event, Event | UserEvent):
        raise RegistrationError(
            f"{name}={event!r}: must be an event, such as aiomos.CONN_SETUP, or a user-defined one"
        )


def _check_lifecycle(function: LifecycleT) -> LifecycleT:
    asked = {"engine": None} if callable(function) and asks_for_engine(function) else {}
    if not callable(function) or not _takes(function, **asked):
        raise RegistrationError(
            f"{place(function)}: must be a function that can be called without arguments, or with one named 'engine'"
        )
    return function


def asks_for_engine(function: Callable[..., object]) -> bool:
    """Tell whether a start-up or shut-down function is to be called with ``engine=``, the runtime."""
    return "engine" in inspect.signature(function).parameters


def _takes(function: Callable[..., object], *arguments: object, **named: object) -> bool:
    """Whether a function can be called with such arguments."""
    try:
        inspect.signature(function).bind(*arguments, **named)
    except TypeError:
        return False
    return True
