"""User-defined events: predicates over a built-in event or over another user-defined event (paper, section 3.3)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from weakref import WeakSet

from aiomos.errors import RegistrationError
from aiomos.levels import Level
from aiomos.ude.events import FRAME, Event, Hook
from aiomos.ude.expressions import is_about_vlans
from aiomos.ude.filters import Filter
from aiomos.ude.locating import located
from aiomos.ude.parameters import place, predicate_parameters
from aiomos.ude.predicates import Compiled, NotNative, compile_predicate
from aiomos.ude.sizes import TooLarge, check_sizes

if TYPE_CHECKING:
    from aiomos.engine.engine import Engine

Predicate: TypeAlias = Callable[..., object]
AnyEvent: TypeAlias = "Event | UserEvent"

PredicateT = TypeVar("PredicateT", bound=Predicate)

MOST_DEPTH = 32
"""Events between a user-defined event and the built-in one it goes back to."""


class UserEvent:
    """An event that is raised where its base is and its predicate holds; made by `ude` and `App.ude`.

    Calling it calls the predicate, as a test may do. It can be shared by any number of apps: it is looked at once for
    all of them.

    Attributes:
        name: The predicate's name.
        base: The event below it; None for one that is only ever raised by hand.
        root: The built-in event at the bottom; None likewise.
        predicate: The function.
        parameters: What the predicate asks for, in its order.
        filter: Picks the flows on which it can happen.
        once: Whether it is raised at most once a flow.
        level: The least level at which it can be judged.
        compiled: What the engine runs in the predicate's place; None where that is the predicate itself.
        why_not: Why the predicate is not compiled, naming line and construct; None where it is.
        active: False once it is undefined.
        engines: Those that raise it.
    """

    def __init__(
        self,
        name: str,
        base: "AnyEvent | None",
        predicate: Predicate,
        chosen: Filter,
        *,
        native: bool = False,
        once: bool = False,
    ) -> None:
        self.name = name
        self.base = base
        self.root: Event | None = base.root if isinstance(base, UserEvent) else base
        self.predicate = predicate
        self.parameters: tuple[str, ...] = predicate_parameters(predicate)
        self.filter = chosen
        self.once = once
        self.compiled: Compiled | None = None
        self.why_not: str | None = None
        self.active: bool = True
        self.engines: WeakSet[Engine] = WeakSet()
        self._check_depth()
        check_filter(self.root, chosen)
        compiled = compile_predicate(predicate, self.parameters)
        if isinstance(compiled, NotNative):
            self.why_not = str(compiled)
            if native:
                raise RegistrationError(f"{place(predicate)} cannot run without the interpreter: {compiled}")
            _check_sizes(predicate)
        else:
            self.compiled = compiled
        self.level: Level = max(
            base.level if base is not None else Level.STATE,
            compiled.level if isinstance(compiled, Compiled) else Level.STATE,
        )

    @property
    def native(self) -> bool:
        """Whether it is judged without the interpreter."""
        return self.compiled is not None

    @property
    def listing(self) -> str:
        """The compiled predicate in readable form; empty where there is none."""
        return "" if self.compiled is None else str(self.compiled)

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The hooks at which it can be raised."""
        return self.root.hooks if self.root is not None else (Hook.RECEIVER,)

    def undefine(self) -> None:
        """Have it and all events upon it never be raised again, also while traffic runs."""
        if self.active:
            self.active = False
            for engine in list(self.engines):
                engine.remove_event(self)

    def _check_depth(self) -> None:
        depth, event = 0, self.base
        while isinstance(event, UserEvent):
            if not event.active:
                raise RegistrationError(f"{self.name}: its base {event.name} is undefined")
            depth, event = depth + 1, event.base
        if depth >= MOST_DEPTH:
            raise RegistrationError(f"{self.name}: more than {MOST_DEPTH} events upon one another")

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Call the predicate."""
        return self.predicate(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<UserEvent {self.name}>"


@located()
def ude(
    base: AnyEvent,
    *,
    filter: str = "",  # noqa: A002  tcpdump's word for it, and ours
    native: bool = False,
    once: bool = False,
    name: str | None = None,
) -> Callable[[Predicate], UserEvent]:
    """Define an event by a predicate over another; for libraries of events, `App.ude` for those of one app.

    The predicate receives what it names, in any order: ``pkt``, ``flow``, ``half``, ``side``, ``time``. It should only
    look: where it can be compiled (docs/reference/predicates.md), it is not called at all.

    Args:
        base: The event upon which it builds; the predicate is only looked at where that is raised.
        filter: Connection filter that picks the flows on which it can happen.
        native: Whether a predicate that needs the interpreter is an error.
        once: Whether it is raised at most once a flow: the first time that the predicate holds.
        name: For logs and listings; by default the predicate's.

    Returns:
        A decorator that gives a `UserEvent` in the predicate's place.

    Raises:
        FilterSyntaxError: the filter cannot be read.
        RegistrationError: *base* is no event, or the function no predicate; it would compute a huge constant at each
            packet; with *native*, why it cannot be compiled.
    """
    if not isinstance(base, Event | UserEvent):
        raise RegistrationError(
            f"base={base!r}: must be an event, such as aiomos.PKT_IN, or a user-defined event"
        )
    chosen = Filter(filter)

    @located()
    def define(predicate: Predicate) -> UserEvent:
        given = name if name is not None else getattr(predicate, "__name__", "event")
        return UserEvent(str(given), base, predicate, chosen, native=native, once=once)

    return define


def event(name: str) -> UserEvent:
    """Make an event without a base, which is only raised by hand, by `App.emit` (mOS: alloc_event, raise_event)."""
    return UserEvent(name, None, _never, Filter(""))


def check_filter(event: Event | None, chosen: Filter) -> None:
    """Make sure that a filter asks only for what there is at a built-in event.

    Raises:
        RegistrationError: it asks for the ends of a frame that has none.
    """
    if event is FRAME and not is_about_vlans(chosen.expression):
        raise RegistrationError(
            f"filter={chosen.text!r}: of a frame without IP, or a malformed one, a filter can only ask for the vlan"
        )


def _check_sizes(predicate: Predicate) -> None:
    try:
        check_sizes(predicate)
    except TooLarge as error:
        raise RegistrationError(f"{place(predicate)}: {error}") from None


def _never() -> bool:
    return False
