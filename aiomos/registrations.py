"""Registrations: what an app wants of the flows it picks. Each installs itself where its app is attached.

What a registration needs there is an `Attachment`; neither engine nor runtime is known here.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import attrs

from aiomos.levels import Level
from aiomos.ude.events import ORPHAN, Hook
from aiomos.ude.filters import Filter
from aiomos.ude.user import AnyEvent, UserEvent

if TYPE_CHECKING:
    from aiomos.app import App
    from aiomos.face.streams import MonitorConnection
    from aiomos.face.views import Flow

Handler: TypeAlias = "Callable[[MonitorConnection], Coroutine[Any, Any, None]]"
Callback: TypeAlias = Callable[..., None]
Opener: TypeAlias = "Callable[[Flow], MonitorConnection]"
Undo: TypeAlias = Callable[[], object]
Overlap: TypeAlias = Literal["first", "last", "bsd", "linux", "windows", "solaris"]
Gaps: TypeAlias = Literal["raise", "mark", "skip", "zero"]
Urgent: TypeAlias = Literal["inline", "out_of_band"]


class Attachment(Protocol):
    """Where an app is attached, as far as its registrations need to know."""

    def watch(
        self,
        chosen: Filter,
        level: Level,
        *,
        midstream: bool,
        overlap: Overlap,
        urgent: Urgent,
        opener: Opener,
        start: "AnyEvent | None",
        keeps: bool,
    ) -> int:
        """Watch flows, and have a connection made of each; return the number of the rule."""

    def stop_watching(self, rule: int) -> None:
        """Undo `watch`."""

    def starter(self, handler: Handler, gaps: Gaps, level: Level) -> Opener:
        """Return what starts a handler on a flow and makes its connection."""

    def share(
        self, chosen: Filter, level: Level, *, midstream: bool, keeps: bool = False, unbound: bool = False
    ) -> int:
        """Watch flows without connections, by a rule for all that want the same; return its number."""

    def give_up(self, rule: int) -> None:
        """Undo `share`."""

    def call(
        self,
        rule: int,
        event: AnyEvent,
        hook: Hook,
        function: Callback,
        parameters: tuple[str, ...],
        edits: bool | None,
    ) -> Undo:
        """Call a function upon an event on a rule's flows."""


class Registration(Protocol):
    """What an app registers: flows, and what becomes of them."""

    @property
    def app(self) -> "App":
        """The app it belongs to."""

    def install(self, attachment: Attachment) -> Undo:
        """Count from now on where the app is attached; return what undoes that.

        Raises:
            RegistrationError: the engine takes no more.
        """


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
        urgent: Whether urgent bytes are part of its streams.
        start: The event on a flow from which on the handler is started; None for its first bytes.
    """

    app: "App" = attrs.field(repr=False)
    handler: Handler
    filter: Filter
    level: Level
    midstream: bool
    overlap: Overlap
    gaps: Gaps
    urgent: Urgent
    start: "AnyEvent | None"

    def install(self, attachment: Attachment) -> Undo:
        """Start the handler on flows from now on."""
        rule = attachment.watch(
            self.filter,
            self.level,
            midstream=self.midstream,
            overlap=self.overlap,
            urgent=self.urgent,
            opener=attachment.starter(self.handler, self.gaps, self.level),
            start=self.start,
            keeps=self.start is not None and self.level is Level.STREAM,
        )
        return lambda: attachment.stop_watching(rule)


@attrs.define(eq=False, kw_only=True)
class CallbackRegistration:
    """A callback and the event it waits for; calling it calls the function.

    Attributes:
        app: The app it belongs to.
        event: The event, built-in or user-defined.
        hook: Where in the processing of a packet it is called.
        function: The callback.
        parameters: What it asked for, in the order of its parameters.
        filter: Picks the flows, on the first packet of each.
        level: How much of each flow the callback needs followed.
        midstream: Whether flows whose handshake was not seen count too.
        edits: Whether the callback replaces payload; None to tell by its code.
        active: False once it is cancelled.
    """

    app: "App" = attrs.field(repr=False)
    event: AnyEvent
    hook: Hook
    function: Callback
    parameters: tuple[str, ...]
    filter: Filter
    level: Level
    midstream: bool
    edits: bool | None = None
    active: bool = True

    @property
    def unbound(self) -> bool:
        """Whether it is about packets that belong to no flow, or not yet."""
        root = self.event.root if isinstance(self.event, UserEvent) else self.event
        return self.hook is Hook.RAW or root is ORPHAN

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Call the function, as a test of the app may do."""
        self.function(*args, **kwargs)

    def cancel(self) -> None:
        """Stop the callback from being called, also while traffic runs; a second call does nothing."""
        if self.active:
            self.active = False
            self.app.callbacks.remove(self)
            for runtime in self.app.runtimes:
                runtime.withdraw(self)

    def install(self, attachment: Attachment) -> Undo:
        """Call the callback from now on."""
        rule = attachment.share(
            self.filter,
            self.level,
            midstream=self.midstream,
            keeps=self.level is Level.STREAM,
            unbound=self.unbound,
        )
        try:
            forget = attachment.call(rule, self.event, self.hook, self.function, self.parameters, self.edits)
        except BaseException:
            attachment.give_up(rule)
            raise

        def undo() -> None:
            forget()
            attachment.give_up(rule)

        return undo


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

    def install(self, attachment: Attachment) -> Undo:
        """Have the flows followed from now on."""
        rule = attachment.share(self.filter, self.level, midstream=self.midstream)
        return lambda: attachment.give_up(rule)
