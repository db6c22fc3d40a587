"""Handlers that begin late, apps that stop in the middle of something, errors that end a run."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

import aiomos
from aiomos import (
    CONN_SETUP,
    CONN_START,
    CONN_TEARDOWN,
    ERROR,
    ORPHAN,
    PKT_IN,
    App,
    Budgets,
    Flow,
    Gap,
    Hook,
    Level,
    MonitorConnection,
    Occurrence,
    Packet,
    RegistrationError,
    Runtime,
    Settings,
    Timeouts,
)
from aiomos.engine.engine import Engine
from aiomos.engine.registry import Account
from aiomos.face.pressure import Pressure
from aiomos.testing.batches import feed_frames
from aiomos.testing.packets import tcp_frame
from aiomos.testing.scenario import Conversation, Frame
from aiomos.ude.filters import Filter
from tests.events import play
from tests.traffic import START_NS, Traffic, fail


def batches(*payloads: bytes) -> list[Frame]:
    """A connection whose client sends these, a batch each."""
    traffic = Traffic()
    conn = traffic.connection()
    for payload in payloads:
        traffic.cut()
        conn.client(payload)
    conn.close()
    return traffic.frames


def test_a_late_reader_of_a_half_with_a_hole() -> None:
    """What is held beyond the hole is not its turn yet."""
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"early")
    traffic.cut()
    conn.client(b"tail!", at=10)
    traffic.cut()
    conn.client(b"more!", at=15)
    for _ in range(3):
        traffic.cut()
        conn.server(b"x")
    conn.close()
    app: App[None] = App("app")
    got: list[bytes | tuple[int, int]] = []
    app.track(level=Level.STREAM)

    @app.on(PKT_IN)
    def begin(pkt: Packet) -> None:
        if pkt.payload == b"more!":
            begin.cancel()

            @app.monitor(midstream=True, gaps="mark")
            async def read(conn: MonitorConnection) -> None:
                items = [item async for item in conn.client]
                got.extend((item.offset, item.length) if isinstance(item, Gap) else item for item in items)

    play(traffic.frames, app, batch=1)
    assert got == [(0, 5), (5, 5), b"tail!more!"]


@pytest.mark.parametrize("disturbed", [True, False])
def test_what_is_kept_for_a_late_handler_is_kept_until_it_has_it(*, disturbed: bool) -> None:
    """Though another app leaves the flow in between."""
    app, other = App[None]("app"), App[None]("other")
    got: list[bytes] = []

    @app.monitor(start=app.ude(PKT_IN)(lambda pkt: pkt.payload == b"go"))
    async def read(conn: MonitorConnection) -> None:
        got.append(await conn.client.read())

    @other.on(PKT_IN)
    def leave(pkt: Packet, flow: Flow) -> None:
        if disturbed and pkt.payload == b"late":
            flow.stop()

    traffic = Traffic()
    conn = traffic.connection()
    for payload in (b"a", b"b", b"c", b"go", b"late"):
        conn.client(payload)
    conn.close()
    play(traffic.frames, app, other, batch=4)
    assert got == [b"abcgolate"]


def test_a_handler_that_begins_late_is_told_at_once_which_half_has_ended() -> None:
    """It does not wait until the whole flow has ended."""
    app: App[None] = App("app")
    log: list[bytes] = []

    @app.monitor(start=app.ude(PKT_IN)(lambda pkt: pkt.payload == b"go"))
    async def read(conn: MonitorConnection) -> None:
        log.append(await conn.client.read())
        log.append(await conn.server.read())

    @app.on(PKT_IN)
    def note(pkt: Packet) -> None:
        if pkt.payload == b"later":
            log.append(b"note")

    c = Conversation().handshake().client("FPA", b"hello").server("A").server("PA", b"go").client("A")
    play(c.server("PA", b"later").client("A").server("FA").client("A").frames, app, batch=1)
    assert log == [b"hello", b"note", b"golater"]


@pytest.mark.parametrize("how", ["stop", "leave"])
def test_the_events_of_a_connection_end_when_it_is_left(how: str) -> None:
    app: App[None] = App("app")
    connections: list[MonitorConnection] = []
    ended: list[int] = []

    @app.monitor()
    async def listen(conn: MonitorConnection) -> None:
        connections.append(conn)
        seen: list[Occurrence] = [occurrence async for occurrence in conn.events(PKT_IN)]
        ended.append(len(seen))

    @app.on(PKT_IN)
    def go(pkt: Packet, flow: Flow) -> None:
        if pkt.payload == b"stop":
            flow.stop() if how == "stop" else connections[0].leave()

    play(batches(b"a", b"b", b"stop", b"d"), app, batch=1)
    assert len(ended) == 1


def test_a_stop_inside_an_event_raised_by_hand_counts_outside() -> None:
    app: App[None] = App("app")
    log: list[str] = []
    alarm = app.event("alarm")

    @app.on(PKT_IN)
    def first(pkt: Packet, flow: Flow) -> None:
        if pkt.payload == b"x":
            app.emit(alarm, flow)

    app.on(alarm)(lambda flow: (log.append("stop"), flow.stop()))

    @app.on(PKT_IN)
    def second(pkt: Packet) -> None:
        log.append(pkt.payload.decode())

    play(batches(b"x", b"y"), app)
    assert log == ["", "", "", "stop"]


def test_a_stop_counts_for_the_other_callbacks_of_the_connection() -> None:
    app: App[None] = App("app")
    log: list[str] = []

    @app.monitor()
    async def listen(conn: MonitorConnection) -> None:
        conn.on(PKT_IN, lambda flow: (log.append("first"), flow.stop()))
        conn.on(PKT_IN, lambda: log.append("second"))
        await conn.closed()

    play(batches(b"1", b"2", b"3"), app, batch=1)
    assert log == ["first"]


def test_the_filter_of_an_event_upon_one_raised_by_hand() -> None:
    app: App[None] = App("app")
    log: list[str] = []
    base = app.event("base")
    child = app.ude(base, filter="port 9999")(lambda: True)
    picked = app.ude(base, filter="port 80")(lambda: True)
    app.on(child)(lambda: log.append("child"))
    app.on(picked)(lambda: log.append("picked"))
    app.on(CONN_SETUP)(lambda flow: app.emit(base, flow))
    traffic = Traffic()
    traffic.connection().close()
    play(traffic.frames, app)
    assert log == ["picked"]


def synack_first() -> list[Frame]:
    traffic = Traffic()
    conn = traffic.connection(opened=False)
    conn.segment("server", at=-1, flags="SA")
    conn.sent["client"] = 0
    traffic.cut()
    conn.segment("client", at=-1, flags="S")
    conn.segment("client")
    conn.client(b"hello")
    conn.close()
    return traffic.frames


def test_a_syn_that_comes_late_does_not_undo_a_stop() -> None:
    app: App[None] = App("app")
    seen: list[Packet] = []

    @app.on(PKT_IN, midstream=True)
    def once(pkt: Packet, flow: Flow) -> None:
        seen.append(pkt.copy())
        flow.stop()

    report = play(synack_first(), app)
    assert len(seen) == 1
    assert report.counters["midstream"] == 0


def test_a_syn_that_comes_late_leaves_the_callbacks_of_a_connection() -> None:
    app: App[None] = App("app")
    seen: list[int] = []

    @app.monitor(level=Level.STATE, midstream=True)
    async def listen(conn: MonitorConnection) -> None:
        seen.append(len([occurrence async for occurrence in conn.events(PKT_IN)]))

    play(synack_first(), app, batch=1)
    assert seen[0] > 3


def test_watch_sets_are_given_back() -> None:
    """However often apps come and go, a flow can be watched by any set of them."""

    def fail(_function: object, _flow: Flow | None, error: Exception) -> None:
        raise error

    engine = Engine(Settings(), bytes(16), fail)
    everything = Filter("").program
    engine.add_rule(everything, Level.STATE)
    traffic = Traffic()
    traffic.connection()
    feed_frames(engine, traffic.frames)
    for _ in range(4200):
        account = engine.add_account("guest")
        engine.pick_up([engine.add_rule(everything, Level.STATE, account=account, midstream=True)])
        engine.remove_account(account)
    opened: list[MonitorConnection] = []

    def opener(flow: Flow) -> MonitorConnection:
        opened.append(MonitorConnection(flow, Pressure(1, 1), engine.released, "mark", wanted=False))
        return opened[-1]

    waiting = engine.add_rule(everything, Level.STATE, account=engine.add_account("late"))
    engine.start_at(waiting, CONN_SETUP, opener)
    engine.add_rule(everything, Level.STATE, account=engine.add_account("early"), opener=opener)
    traffic.frames.clear()
    traffic.connection(port=2000)
    feed_frames(engine, traffic.frames)
    assert len(opened) == 2


def test_watch_sets_for_which_there_is_no_room_are_counted() -> None:
    """Which of 13 watch a flow, the bits of its port say. Where there is no room for that, all do, and are counted."""
    engine = Engine(Settings(), bytes(16), lambda *_: None)
    accounts = [engine.add_account(str(bit)) for bit in range(13)]
    called: Counter[int] = Counter()

    def stopper(bit: int) -> Callable[[Flow], None]:
        return lambda flow: None if flow.client.port >> bit & 1 else flow.stop()

    def caller(bit: int) -> Callable[[], None]:
        return lambda: called.update([bit])

    for bit, account in enumerate(accounts):
        rule = engine.add_rule(Filter("").program, Level.STATE, account=account)
        engine.add_call(rule, CONN_START, Hook.RECEIVER, stopper(bit), ("flow",))
        engine.add_call(rule, PKT_IN, Hook.RECEIVER, caller(bit), ())
    full: list[int] = []
    for ports in (range(1, 1000), range(1, 4200)):
        traffic = Traffic()
        for port in ports:
            traffic.connection(port, opened=False).segment("client", at=-1, flags="S")
        feed_frames(engine, traffic.frames)
        full.append(engine.statistics()["watch_sets_full"])
        called.clear()
        feed_frames(engine, traffic.frames)
        assert engine.count_flows(accounts) == [called[bit] for bit in range(13)]
        more = sum(called.values()) - sum(port.bit_count() for port in ports)
        assert more == 0 if not full[-1] else more > 0
    assert full[0] == 0
    assert full[1] > 0


@pytest.mark.parametrize("hook", [Hook.SENDER, Hook.RECEIVER])
def test_an_error_that_ends_the_run_leaves_the_engine_whole(hook: Hook) -> None:
    """It is raised once the batch is done: no flow is left half way, and finish() ends all."""

    def fail(_function: object, _flow: Flow | None, error: Exception) -> None:
        raise error

    engine = Engine(Settings(), bytes(16), fail)
    rule = engine.add_rule(Filter("").program, Level.STATE)
    states: list[tuple[str | None, bool]] = []

    def refuse(pkt: Packet) -> None:
        if pkt.rst:
            raise ValueError("on purpose")

    engine.add_call(rule, PKT_IN, hook, refuse, ("pkt",))
    engine.add_call(
        rule,
        aiomos.CONN_TEARDOWN,
        Hook.RECEIVER,
        lambda flow: states.append((flow.reason, flow.closed)),
        ("flow",),
    )
    traffic = Traffic()
    conn = traffic.connection()
    conn.segment("client", flags="RA")
    with pytest.raises(ValueError, match="on purpose"):
        feed_frames(engine, traffic.frames)
    while engine.finish():
        pass
    assert states == [("rst", True)]
    held = {name: n for name, n in engine.statistics().items() if name.startswith("held.") and n}
    assert held == {}


def test_what_is_let_go_while_a_late_handler_is_given_it_is_a_gap() -> None:
    """Told that the first stretch is unread, the app does what has the kept bytes forgotten."""
    traffic = Traffic()
    conn = traffic.connection()
    for _ in range(4):
        conn.server(bytes(1000))
    conn.client(b"early hole", captured=5)
    conn.client(b"tail!")
    conn.client(b"more!")  # what came last is remembered in any case
    conn.server(b"go")
    conn.close()
    app: App[None] = App("app")
    told: list[tuple[int | None, int | None]] = []
    got: list[bytes | tuple[int, int]] = []
    first: list[MonitorConnection] = []

    @app.monitor(level=Level.STREAM)
    async def wait(conn: MonitorConnection) -> None:
        first.append(conn)
        await conn.server.read(1)
        await conn.closed()

    @app.monitor(start=app.ude(PKT_IN)(lambda pkt: pkt.payload == b"go"), gaps="mark")
    async def read(conn: MonitorConnection) -> None:
        items = [item async for item in conn.client]
        got.extend((item.offset, item.length) if isinstance(item, Gap) else item for item in items)

    @app.on(ERROR)
    def note(event: Occurrence) -> None:
        if event.kind == "gap.unread" and event.side == "client":
            told.append((event.offset, event.length))
            first[0].on(PKT_IN, lambda: None)

    budgets = aiomos.Budgets(stream_bytes=1 << 20, stream_bytes_total=1000)
    play(traffic.frames, app, batch=1, settings=Settings(budgets=budgets, on_error="raise"))
    assert told == [(0, 5)]
    assert got == [(0, 20)]


def test_a_handler_that_is_too_slow_is_told() -> None:
    """Bytes that it did not take in time are an ERROR of its app."""
    app: App[None] = App("app")
    told: list[tuple[str | None, int | None]] = []

    @app.monitor()
    async def wait(conn: MonitorConnection) -> None:
        await conn.client.read(1)
        await conn.closed()

    @app.on(ERROR)
    def note(event: Occurrence) -> None:
        told.append((event.kind, event.length))

    budgets = aiomos.Budgets(stream_bytes=1000, stream_bytes_total=1 << 30)
    play(
        batches(*(bytes(1000) for _ in range(8))),
        app,
        batch=1,
        settings=Settings(budgets=budgets, on_error="raise"),
    )
    assert ("gap.unread", 1000) in told


# --- many flows -------------------------------------------------------------------------------------------

MANY = 20_000


def many_flows() -> list[tuple[int, bytes, int, int]]:
    frames = [
        tcp_frame(f"10.1.{number >> 8}.{number & 255}", "10.2.0.2", 4000, 80, seq=100, flags="S")
        for number in range(MANY)
    ]
    return [(START_NS + number, frame, 1, len(frame)) for number, frame in enumerate(frames)]


def test_running_flows_are_shown_to_a_late_rule_some_at_a_time() -> None:
    engine = Engine(Settings(budgets=Budgets(flows=MANY, half_open=MANY)), bytes(16), fail)
    engine.add_rule(Filter("").program, Level.STATE)
    feed_frames(engine, many_flows())
    told = 0

    def tell() -> None:
        nonlocal told
        told += 1

    late = engine.add_rule(Filter("").program, Level.STATE, midstream=True)
    engine.add_call(late, CONN_TEARDOWN, Hook.RECEIVER, tell, ())
    turns = 1
    more = engine.pick_up([late])
    while more:
        turns += 1
        more = engine.pick_on()
    assert turns == 3
    assert not engine.pick_on()
    while engine.finish():
        pass
    assert told == MANY


def test_a_rule_that_goes_meanwhile_is_shown_no_more() -> None:
    engine = Engine(Settings(budgets=Budgets(flows=MANY, half_open=MANY)), bytes(16), fail)
    engine.add_rule(Filter("").program, Level.STATE)
    feed_frames(engine, many_flows())
    account = engine.add_account("late")
    assert engine.pick_up([engine.add_rule(Filter("").program, Level.STATE, account=account, midstream=True)])
    engine.remove_account(account)
    assert not engine.pick_on()


SLICE = 4096
"""Flows looked at in a call for rules that were removed."""


def crowded(flows: int = MANY) -> tuple[Engine, Account]:
    """An engine with many flows whose bytes are counted for an app, and by that alone."""
    engine = Engine(Settings(budgets=Budgets(flows=flows, half_open=flows)), bytes(16), fail)
    account = engine.add_account("counting")
    engine.add_rule(Filter("").program, Level.BYTES, account=account)
    feed_frames(engine, many_flows()[:flows])
    assert engine.statistics()["held.tracks"] == 2 * flows
    return engine, account


def test_a_removed_rule_is_forgotten_by_so_many_flows_in_a_call() -> None:
    """What a flow does no more shows that it was looked at: its tracks are given back."""
    engine, account = crowded()
    left = MANY
    more = engine.remove_account(account)
    while left > SLICE:
        left -= SLICE
        assert more
        assert engine.statistics()["held.tracks"] == 2 * left
        more = engine.sweep_on()
    assert not more
    assert engine.statistics()["held.tracks"] == 0
    assert not engine.sweep_on()


@pytest.mark.parametrize("inside", [False, True])
def test_batches_have_a_removed_rule_forgotten(inside: bool) -> None:
    """One slice in each, the one in which it is removed among them."""
    engine, account = crowded(3 * SLICE)
    told: list[bool] = []
    if inside:
        watching = engine.add_rule(Filter("").program, Level.STATE, unbound=True)
        engine.add_call(
            watching, ORPHAN, Hook.RECEIVER, lambda: told.append(engine.remove_account(account)), ()
        )
    else:
        assert engine.remove_account(account)
    orphan = tcp_frame("10.3.0.1", "10.3.0.2", seq=1, flags="A")
    left = []
    for number in range(3):
        feed_frames(engine, [(START_NS + MANY + number, orphan, 1, len(orphan))])
        left.append(engine.statistics()["held.tracks"] // 2)
    assert left == ([2 * SLICE, SLICE, 0] if inside else [SLICE, 0, 0])
    assert told == [False] * (3 * inside)


def test_a_number_is_used_again_when_all_flows_have_forgotten_it() -> None:
    engine, account = crowded()
    more = engine.remove_account(account)
    numbers = []
    while more:
        numbers.append(engine.add_rule(None, Level.STATE))
        more = engine.sweep_on()
    assert numbers == [1, 2, 3, 4]
    assert engine.add_rule(None, Level.STATE) == 0


def test_rules_removed_in_a_round_have_one_of_their_own() -> None:
    """It begins when the first has ended; flows that this had looked at do too much until then."""
    engine, first = crowded()
    second = engine.add_account("second")
    more = engine.pick_up([engine.add_rule(Filter("").program, Level.BYTES, account=second, midstream=True)])
    while more:
        more = engine.pick_on()
    assert engine.remove_account(first)  # of a slice of flows, for which the second is still there
    assert engine.remove_account(second)  # and of the next, for which there is neither
    held = []
    while engine.sweep_on():
        held.append(engine.statistics()["held.tracks"] // 2)
        if len(held) == 3:
            assert engine.add_rule(None, Level.STATE) == 0  # the first one's number
    assert held == [MANY - 2 * SLICE, MANY - 3 * SLICE, SLICE, 0, 0, 0, 0]
    assert engine.add_rule(None, Level.STATE) == 1


def test_an_app_of_many_rules_takes_the_place_of_another_at_once() -> None:
    """Where numbers are short, no slice is waited for."""
    engine, counting = crowded()
    for name in ("one", "other", "one"):
        account = engine.add_account(name)
        rules = [engine.add_rule(Filter("").program, Level.STATE, account=account) for _ in range(63)]
        assert rules == list(range(1, 64))
        with pytest.raises(RegistrationError, match="takes 64"):
            engine.add_rule(None, Level.STATE, account=account)
        engine.remove_account(account)
    assert engine.remove_account(counting)


def test_sets_that_nobody_watches_any_more_make_room_for_others() -> None:
    """Which of 13 watch a flow, the bits of its port say: more sets than there is room for, but not at once."""
    engine = Engine(Settings(timeouts=Timeouts(reset=0)), bytes(16), fail)

    def stopper(bit: int) -> Callable[[Flow], None]:
        return lambda flow: None if flow.client.port >> bit & 1 else flow.stop()

    for bit in range(13):
        account = engine.add_account(str(bit))
        rule = engine.add_rule(Filter("").program, Level.STATE, account=account)
        engine.add_call(rule, CONN_START, Hook.RECEIVER, stopper(bit), ("flow",))
    for first in range(1, 8000, 100):
        traffic = Traffic()
        connections = [traffic.connection(port) for port in range(first, first + 100)]
        feed_frames(engine, traffic.frames)
        traffic.batches = [[]]
        for connection in connections:
            connection.reset()
        feed_frames(engine, traffic.frames)
    counters = engine.statistics()
    assert counters["ended.rst"] == 8000
    assert counters["watch_sets_full"] == 0


def test_the_set_of_a_flow_that_ended_is_nobody_elses_before_apps_were_told() -> None:
    """An app goes, and another stops watching a flow, while those who watch a flow that was reset are yet to get it."""
    engine = Engine(Settings(timeouts=Timeouts(reset=0)), bytes(16), fail)
    told: list[tuple[str, int]] = []
    views: dict[int, Flow] = {}

    def connect(name: str, flow: Flow) -> MonitorConnection:
        told.append((name, flow.client.port))
        return MonitorConnection(flow, Pressure(1, 1), engine.released, "mark", wanted=False)

    def opener(flow: Flow) -> MonitorConnection:
        views[flow.client.port] = flow
        if flow.client.port == 1:
            assert not engine.remove_account(guest)
        if flow.client.port == 2:
            views[1].stop()  # which nobody but the third app watches from now on: a set that was not there
        return connect("all", flow)

    guest, third = engine.add_account("guest"), engine.add_account("third")
    engine.add_rule(Filter("").program, Level.STATE, account=guest)
    engine.add_rule(Filter("").program, Level.STATE, account=engine.add_account("all"), opener=opener)
    engine.add_rule(Filter("").program, Level.STATE, account=third)
    engine.add_rule(
        Filter("port 3").program,
        Level.STATE,
        account=engine.add_account("one"),
        opener=lambda flow: connect("one", flow),
    )
    traffic = Traffic()
    connections = [traffic.connection(port) for port in (1, 2, 3)]
    connections[2].reset()
    feed_frames(engine, traffic.frames)
    assert told == [("all", 1), ("all", 2), ("all", 3), ("one", 3)]
    assert engine.statistics()["ended.rst"] == 1


def test_flows_forget_an_app_that_is_detached_in_turns_of_the_loop() -> None:
    """Where no frames come."""
    app: App[None] = App("counting")

    @app.monitor(level=Level.BYTES)
    async def follow(_conn: MonitorConnection) -> None:
        """Have the bytes of all flows counted."""

    async def main() -> list[int]:
        settings = Settings(budgets=Budgets(flows=MANY, half_open=MANY))
        held = []
        async with Runtime(source=Traffic().source(), settings=settings) as runtime:
            await runtime.attach(app)
            feed_frames(runtime.engine, many_flows())
            await runtime.detach(app)
            for _ in range(6):
                held.append(runtime.engine.statistics()["held.tracks"])
                await asyncio.sleep(0)
        return held

    held = asyncio.run(main())
    assert held == [2 * max(0, MANY - turns * SLICE) for turns in range(1, 7)]


def test_an_app_that_is_attached_late_sees_them_all() -> None:
    first: App[None] = App("first")
    late: App[None] = App("late")
    seen: list[Flow] = []

    @first.on(CONN_START, filter="host 10.1.0.0")
    def attach(engine: Runtime) -> None:
        tasks.append(asyncio.get_running_loop().create_task(engine.attach(late)))

    @first.on(CONN_TEARDOWN)
    def watch_all() -> None:
        """Have all flows followed."""

    @late.on(CONN_TEARDOWN, midstream=True)
    def count(flow: Flow) -> None:
        seen.append(flow)

    tasks: list[asyncio.Task[None]] = []
    traffic = Traffic()
    traffic.batches = [many_flows()]
    budgets = Budgets(flows=MANY, half_open=MANY)
    aiomos.run(first, source=traffic.source(), settings=Settings(budgets=budgets, on_error="raise"))
    assert len(tasks) == 1
    assert len({flow.client.address for flow in seen}) == MANY


def test_a_rule_that_comes_before_the_servers_late_syn_sees_no_change_of_old() -> None:
    conversation = Conversation(client_isn=100, server_isn=1)
    conversation.client("S").server("SA", captured=False).client("A").server("PA", b"x" * 10)
    before = len(conversation.frames)
    conversation.server("S", seq=0)
    told: list[object] = []
    engine = Engine(aiomos.Settings(), bytes(16), lambda *error: pytest.fail(str(error)))
    first = engine.add_rule(Filter("").program, aiomos.Level.BYTES)
    engine.add_call(first, aiomos.CONN_START, aiomos.Hook.RECEIVER, lambda _: told.append("start"), ("flow",))
    feed_frames(engine, conversation.frames[:before])
    late = engine.add_rule(Filter("").program, aiomos.Level.BYTES)
    for hook in (aiomos.Hook.SENDER, aiomos.Hook.RECEIVER):
        engine.add_call(
            late,
            aiomos.STATE_CHANGE,
            hook,
            lambda event: told.append((event.before, event.after)),
            ("event",),
        )
        engine.add_call(late, aiomos.PKT_IN, hook, lambda flow: told.append(flow.client.packets), ("flow",))
    feed_frames(engine, conversation.frames[before:])
    assert told == ["start", 2, 2]
