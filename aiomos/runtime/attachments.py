"""Apps that are attached to a runtime: what each has installed there, and how all of it goes again."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from aiomos.app import App, asks_for_engine
from aiomos.errors import RegistrationError
from aiomos.face.streams import MonitorConnection
from aiomos.face.views import Flow
from aiomos.levels import Level
from aiomos.outputs import failure_told
from aiomos.registrations import Callback, Gaps, Handler, Registration, Undo
from aiomos.runtime.backlog import app_pressure
from aiomos.runtime.clock import current_clock
from aiomos.runtime.handlers import Handlers
from aiomos.runtime.watching import Ground, Watcher
from aiomos.starting import starting
from aiomos.steps import Steps
from aiomos.ude.events import Hook
from aiomos.ude.filters import Filter
from aiomos.ude.user import AnyEvent

if TYPE_CHECKING:
    from aiomos.runtime.runtime import Runtime


class Attachment(Watcher):
    """What a runtime keeps of an app that is attached.

    Attributes:
        app: The app.
        handlers: Its handlers.
    """

    def __init__(self, ground: Ground, app: App) -> None:
        super().__init__(ground, app.name, ground.backlog.add())
        self.app = app
        self.handlers = Handlers(app.name, ground.failures)
        self._variables: tuple[tuple[ContextVar[Any], Any], ...] = (
            (app_pressure, self.pressure),
            (current_clock, ground.clock),
            (failure_told, ground.failures.of_output),
        )
        self._undo: dict[Registration, Undo] = {}
        self._shared: dict[tuple[str, Level, bool, bool, bool], int] = {}
        self._users: Counter[int] = Counter()  # of each shared rule
        self._has_started = False
        self._is_complete = False

    # --- registrations --------------------------------------------------------------------------------

    def install(self, registration: Registration) -> None:
        """Have a registration count from now on."""
        self._undo[registration] = registration.install(self)

    def install_all(self) -> None:
        """Have all of the app's registrations count; those that are made later begin later, and share no rules."""
        with self._ground.wanted.changing():
            for registration in self.app.registrations:
                self.install(registration)
        self._is_complete = True

    def withdraw(self, registration: Registration) -> None:
        """Have a registration count no more."""
        undo = self._undo.pop(registration, None)
        if undo is not None:
            undo()

    def close(self) -> None:
        """Undo what was installed, the last first."""
        with self._ground.wanted.changing():
            for registration in reversed(list(self._undo)):
                self.withdraw(registration)
            super().close()

    # --- what they install ----------------------------------------------------------------------------

    def starter(self, handler: Handler, gaps: Gaps, level: Level) -> Callable[[Flow], MonitorConnection]:
        """Return what starts a handler on a flow and makes its connection."""
        context = copy_context()
        for variable, value in self._variables:
            context.run(variable.set, value)
        return self.handlers.starter(handler, self.connector(gaps, level), context)

    def share(
        self, chosen: Filter, level: Level, *, midstream: bool, keeps: bool = False, unbound: bool = False
    ) -> int:
        """Return a rule for flows that are watched without connections.

        Registrations that want the same share one, if they are made before the app is attached: those made later
        begin later. Each gives it up by itself.
        """
        key = (str(chosen), level, midstream, keeps, unbound)
        rule = None if self._is_complete else self._shared.get(key)
        if rule is None:
            rule = self._shared[key] = self.watch(
                chosen, level, midstream=midstream, keeps=keeps, unbound=unbound
            )
        self._users[rule] += 1
        return rule

    def give_up(self, rule: int) -> None:
        """Undo `share`: with the last that wanted them, its flows go."""
        self._users[rule] -= 1
        if self._users[rule] == 0:
            self._shared = {key: other for key, other in self._shared.items() if other != rule}
            self.stop_watching(rule)

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
        self._ground.turns.have_takers = True
        call = self._ground.engine.add_call(rule, event, hook, function, parameters, edits)
        return partial(self._ground.engine.remove_call, call)

    # --- start and end --------------------------------------------------------------------------------

    async def start(self, runtime: "Runtime") -> None:
        """Run the app's start-up functions; if one raises, what they have registered is taken back."""
        with starting() as undo:
            undo.callback(self.app.checkpoint())
            with self._at_work():
                for function in self.app.startup_functions:
                    await _call(function, runtime)
        self._has_started = True

    async def shut_down(self, runtime: "Runtime", steps: Steps) -> None:
        """Run its shut-down functions, if it had started up, whatever one of them raises."""
        for function in reversed(self.app.shutdown_functions if self._has_started else ()):
            with steps:
                await _call(function, runtime)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Have code in a ``with`` block be the app's."""
        tokens = [(variable, variable.set(value)) for variable, value in self._variables]
        try:
            yield
        finally:
            for variable, token in tokens:
                variable.reset(token)


class Attachments:
    """All apps that are attached to a runtime.

    Args:
        runtime: Whose they are.
        ground: What they stand on.
    """

    def __init__(self, runtime: "Runtime", ground: Ground) -> None:
        self._runtime = runtime
        self._ground = ground
        self._of: dict[App, Attachment] = {}

    def __iter__(self) -> Iterator[Attachment]:
        """Go through them in the order in which the apps see packets from the client."""
        return iter(list(self._of.values()))

    def __getitem__(self, app: App) -> Attachment:
        """Return what is kept of an app.

        Raises:
            KeyError: it is not attached.
        """
        return self._of[app]

    @property
    def handlers(self) -> set[asyncio.Task[None]]:
        """The handlers that run, of all apps."""
        return {task for each in self for task in each.handlers.tasks}

    async def attach(self, app: App) -> None:
        """See `Runtime.attach`."""
        if app in self._of:
            raise RegistrationError(f"{app} is attached already")
        attachment = self._of[app] = Attachment(self._ground, app)
        try:
            await attachment.start(self._runtime)
            attachment.install_all()
        except BaseException:
            await self.detach(app)
            raise
        app.runtimes.append(self._runtime)

    async def detach(self, app: App) -> None:
        """See `Runtime.detach`."""
        attachment = self._of.pop(app, None)
        if attachment is None:
            raise RegistrationError(f"{app} is not attached")
        if self._runtime in app.runtimes:
            app.runtimes.remove(self._runtime)
        steps = Steps()
        attachment.close()
        with steps:
            await attachment.handlers.cancel()
        self._ground.backlog.remove(attachment.pressure)
        await attachment.shut_down(self._runtime, steps)
        steps.conclude()

    def open(self, name: str) -> Watcher:
        """Make what watches flows for no app."""
        return Watcher(self._ground, name, self._ground.backlog.own)


async def _call(function: Callable[..., Any], runtime: "Runtime") -> None:
    """Call a start-up or shut-down function."""
    result = function(engine=runtime) if asks_for_engine(function) else function()
    if inspect.isawaitable(result):
        await result
