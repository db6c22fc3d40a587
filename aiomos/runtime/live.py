"""The live pump: what a transport brings is fed to the engine as it comes, inside a running event loop.

The loop calls when the transport's descriptor is readable. One bounded batch is processed then and there, so that a
frame waits for no task switch, and the loop goes on to the app's own tasks before the next batch. Between frames the
loop sleeps until the engine or a sleeper is due: idle costs no processor time.

What a batch, or the clock, has woken has its turn next. The pump puts itself behind it in the loop's queue, so that
what is sent in that turn leaves in it (docs/design/turn-of-the-loop.md).
"""

import asyncio

from aiomos.runtime.pumps import Feed
from aiomos.runtime.room import Room
from aiomos.transport.transport import Transport

NANOSECOND = 1e-9

LAST_FRAMES_SECONDS = 0.05
"""How long frames are still taken after a stop: those that the kernel had already are to be seen."""

GRACE_SECONDS = 2.0
"""How long at most, where there is no end of them, or the wire has no room for frames of the run's own."""


class LivePump:
    """Feed an engine from a transport until it is stopped, or the transport has ended.

    Slow handlers are not waited for: what does not fit is a gap.

    Args:
        feed: The engine, its clock, and the turns of handlers.
        transport: Where frames come from, and go to.
    """

    def __init__(self, feed: Feed, transport: Transport) -> None:
        self._engine = feed.engine
        self._clock = feed.clock
        self._turns = feed.turns
        self._transport = transport
        self._timer: asyncio.Handle | None = None
        self._timer_when = 0.0
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._runs = False
        self._stopped = False
        self._behind: asyncio.Handle | None = None  # its place in the queue of the loop
        self._is_asked = False
        self._busy = False
        self._room = Room(feed.engine, transport, self._look_at_clock)

    async def run(self) -> None:
        """Run to the end.

        Raises:
            TransportError: the wire is gone for good.
        """
        descriptor = self._transport.fileno()
        self._engine.on_news = self.attend_soon
        self._runs = True
        self._loop.add_reader(descriptor, self._read)
        try:
            if self._stopped:  # while apps started; what has arrived is still taken
                self._end_soon()
            self._look_at_clock()
            await self._ended
        finally:
            self._loop.remove_reader(descriptor)
            self._engine.on_news = None
            self._room.close()
            if self._timer is not None:
                self._timer.cancel()

    def stop(self) -> None:
        """Have `run` return once the frames that have arrived are processed."""
        self._stopped = True
        if self._runs:
            self._end_soon()

    def _end_soon(self) -> None:
        self._busy = False
        self._loop.call_later(LAST_FRAMES_SECONDS, self._end_when_quiet, self._loop.time() + GRACE_SECONDS)

    def _end_when_quiet(self, latest: float) -> None:
        if (self._busy or self._engine.short) and self._loop.time() < latest:
            self._busy = False
            self._loop.call_later(LAST_FRAMES_SECONDS, self._end_when_quiet, latest)
        else:
            self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def attend_soon(self) -> None:
        """Look, in the loop's next turn, at what has been asked of the engine between two batches.

        What was woken asks in its own turn, and finds the pump behind it: it looks in that turn already.
        """
        self._is_asked = True
        if self._runs and self._behind is None:
            self.stand_behind()

    def stand_behind(self) -> None:
        """Be called in the loop's next turn, behind the tasks that have been woken: what they ask for is done then."""
        if self._behind is not None:
            self._behind.cancel()
        self._behind = self._loop.call_soon(self._attend)

    def _attend(self) -> None:
        """Look at what has been asked for, if anything."""
        self._behind = None
        if self._is_asked:
            self._look_at_clock()

    def _read(self) -> None:
        """Process the frames that wait, a batch of them."""
        if self._ended.done():
            return
        try:
            self._turns.pass_on()
            if self._transport.read_batch():
                self._busy = True
                self._engine.feed(self._transport)
            if self._transport.ended:
                self._end()
            if self._settle() or self._turns.have_takers:
                self.stand_behind()
        except BaseException as error:
            self._fail(error)

    def _on_timer(self) -> None:
        self._timer = None
        self._look_at_clock()
        self.stand_behind()

    def _look_at_clock(self) -> None:
        """Let what is due happen."""
        self._is_asked = False
        if self._ended.done():
            return
        try:
            self._turns.pass_on()
            self._engine.pass_time(self._transport.now())
            self._settle()
        except BaseException as error:
            self._fail(error)

    def _settle(self) -> bool:
        """Send what the engine has to send, wake sleepers, and see that the loop calls when something is due.

        Returns:
            Whether a sleeper was woken.
        """
        self._room.flush()
        woken = self._clock.wake()
        due_ns = self._clock.due_ns
        if due_ns is None:
            return woken
        when = self._loop.time() + max(due_ns - self._transport.now(), 0) * NANOSECOND
        if self._timer is None or when < self._timer_when:
            if self._timer is not None:
                self._timer.cancel()
            self._timer, self._timer_when = self._loop.call_at(when, self._on_timer), when
        return woken

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)
