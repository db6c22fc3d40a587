"""Apps on the wire in this process, where a test can look at them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from aiomos import App, Runtime, Settings
from aiomos.transport.bridge import Bridge
from aiomos.transport.transport import Transport
from tests.live.network import COMMAND_SECONDS, Host
from tests.live.programs import in_background


def bridge() -> Transport:
    """Join the two interfaces of the middle."""
    return Bridge("eth0", "eth1")


class Middlebox:
    """Apps in a host, run by a thread until `stop`, or else with the network.

    Args:
        host: The host.
        apps: The apps.
        settings: Those of the engine.
        transport: What opens the transport.
    """

    def __init__(
        self,
        host: Host,
        *apps: App,
        settings: Settings | None = None,
        transport: Callable[[], Transport] = bridge,
    ) -> None:
        with host.inside():
            self._transport = transport()
        self._apps = apps
        self._settings = settings or Settings()
        self._loop = asyncio.new_event_loop()
        self._started: asyncio.Future[Runtime] = self._loop.create_future()
        self._error: BaseException | None = None
        self.counters: dict[str, int] = {}
        """Of the engine and the transport, once it has ended."""
        self._thread = in_background(self._run)
        host.on_close(self.stop)
        self.call(lambda _: None)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self._error = error

    async def _serve(self) -> None:
        async with Runtime(transport=self._transport, settings=self._settings) as runtime:
            for app in self._apps:
                await runtime.attach(app)
            self._started.set_result(runtime)
            await runtime.run()
            self.counters = runtime.statistics()

    def call(self, function: Callable[[Runtime], Any]) -> Any:
        """Call a function of the runtime in its thread, and return what it returns; one that is async is awaited."""

        async def called() -> Any:
            result = function(await self._started)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(COMMAND_SECONDS)

    def stop(self) -> None:
        """End the run in good order.

        Raises:
            BaseException: what has ended it before.
        """
        if self._thread.is_alive():
            self.call(Runtime.stop)
            self._thread.join(COMMAND_SECONDS)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
