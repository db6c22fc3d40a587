"""Flows that are watched for an app, or for whoever listens without one."""

from collections.abc import Callable
from functools import partial

import attrs

from aiomos.engine.engine import Engine
from aiomos.face.pressure import Pressure
from aiomos.face.streams import MonitorConnection
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.registrations import Gaps, Overlap, Urgent
from aiomos.runtime.backlog import Backlog
from aiomos.runtime.clock import Clock
from aiomos.runtime.failures import Failures
from aiomos.runtime.pickup import PickUp
from aiomos.runtime.turns import Turns
from aiomos.runtime.wanted import Wanted
from aiomos.ude.filters import Filter
from aiomos.ude.user import AnyEvent


@attrs.frozen(kw_only=True)
class Ground:
    """What the attachments of one runtime stand on.

    Attributes:
        engine: Watches flows for them.
        clock: What their code sleeps by.
        backlog: What their handlers have not read.
        failures: Told what they raise.
        wanted: Told which flows they watch.
        pickup: Shows them the flows that run already, and has these forget them.
        turns: Told that there is somebody to have one.
    """

    engine: Engine
    clock: Clock
    backlog: Backlog
    failures: Failures
    wanted: Wanted
    pickup: PickUp
    turns: Turns


class Watcher:
    """An account of the engine's, and the flows that are watched for it.

    Args:
        ground: What it stands on.
        name: For statistics.
        pressure: Unread bytes of its connections.

    Attributes:
        account: The engine's side of it.
        pressure: As given.
    """

    def __init__(self, ground: Ground, name: str, pressure: Pressure) -> None:
        self.account = ground.engine.add_account(name)
        self.pressure = pressure
        self._ground = ground
        self._late_starts: dict[
            int, int
        ] = {}  # the rule that comes into force with an event, by that which waits

    def connector(self, gaps: Gaps, level: Level) -> Callable[[Flow], MonitorConnection]:
        """Return what makes connections, for flows that are followed at a level."""
        return partial(
            MonitorConnection,
            pressure=self.pressure,
            released=self._ground.engine.released,
            gaps=gaps,
            wanted=level is Level.STREAM,
        )

    def watch(
        self,
        chosen: Filter,
        level: Level,
        *,
        midstream: bool = False,
        overlap: Overlap = "first",
        urgent: Urgent = "inline",
        opener: Callable[[Flow], MonitorConnection] | None = None,
        start: "AnyEvent | None" = None,
        keeps: bool = False,
        unbound: bool = False,
    ) -> int:
        """Watch flows from now on, and with *midstream* those that run.

        Args:
            chosen: Which flows.
            level: How much of each is followed.
            midstream: Whether flows whose handshake was not seen count.
            overlap: Which bytes count where segments overlap and differ.
            urgent: Whether urgent bytes are part of streams.
            opener: Makes the connection of each flow, if there are to be any.
            start: The event on a flow upon which its connection is made; None for its first bytes.
            keeps: Whether bytes are kept to be looked back at.
            unbound: Whether it is about packets that belong to no flow.

        Returns:
            The number of the rule.

        Raises:
            RegistrationError: the engine takes no more rules.
        """
        engine = self._ground.engine
        if opener is not None:
            self._ground.turns.have_takers = True
        rule = engine.add_rule(
            chosen.program,
            level,
            account=self.account,
            midstream=midstream,
            overlap=overlap,
            urgent=urgent,
            opener=opener if start is None else None,
            keeps=keeps,
            unbound=unbound,
        )
        self._ground.wanted.add(self, rule, None if unbound else chosen)
        if start is not None and opener is not None:
            self._late_starts[rule] = engine.start_at(rule, start, opener)
        if midstream and not unbound:
            self._ground.pickup.show(rule)
        return rule

    def stop_watching(self, rule: int) -> None:
        """Undo `watch`; connections are to be left by who has them."""
        self._ground.wanted.remove(self, rule)
        self._ground.engine.remove_rule(rule)
        if rule in self._late_starts:
            self._ground.engine.remove_rule(self._late_starts.pop(rule))

    def close(self) -> None:
        """Have the engine forget the account, with all that is left of it."""
        self._ground.pickup.forget(self.account)
        self._ground.wanted.forget(self)
