"""Apps: what a registration accepts, what it refuses and how it says so."""

import functools
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiomos.app import App, asks_for_engine
from aiomos.errors import FilterSyntaxError, OptionError, RegistrationError
from aiomos.levels import Level
from aiomos.runtime.runtime import Runtime
from aiomos.ude.events import CONN_SETUP, CONN_TEARDOWN, FRAME, Hook


async def handler(conn: Any) -> None: ...


@attrs.frozen
class Options:
    """Options.

    Attributes:
        out: Where to write.
        limit: How much.
    """

    out: Path
    limit: int = 10


@pytest.fixture
def app() -> App:
    return App("watch")


# --- the app --------------------------------------------------------------------------------------
def test_an_app_is_named_after_its_module_unless_it_says_otherwise() -> None:
    assert App().name == __name__.rpartition(".")[2]
    assert App("watch").name == "watch"
    assert App().module == __name__


def test_options_must_be_an_attrs_class() -> None:
    with pytest.raises(RegistrationError, match="attrs"):
        App(options=dict)


def test_options_are_read_from_pairs() -> None:
    app = App(options=Options)
    app.configure(["out=/tmp/x", "limit=3"])
    assert app.options == Options(Path("/tmp/x"), 3)


def test_options_can_be_given_as_a_record() -> None:
    app = App(options=Options)
    app.options = Options(Path("/tmp/x"))
    assert app.options.limit == 10


def test_options_not_configured_have_their_defaults() -> None:
    @attrs.frozen
    class Defaults:
        limit: int = 10

    assert App(options=Defaults).options == Defaults()


def test_options_that_must_be_set_say_so_at_their_first_use() -> None:
    with pytest.raises(OptionError, match=r"app watch: out must be set to a path. Where to write."):
        _ = App("watch", options=Options).options


def test_an_app_without_options_takes_none(app: App) -> None:
    app.configure([])
    assert app.options is None
    with pytest.raises(OptionError, match="app watch has no options"):
        app.configure(["out=x"])


# --- handlers -------------------------------------------------------------------------------------
def test_a_handler_is_registered_and_given_back(app: App) -> None:
    decorate = app.monitor("server port 80", level=Level.BYTES, midstream=True, overlap="last", gaps="mark")
    assert decorate(handler) is handler
    (registration,) = app.monitors
    assert registration.app is app
    assert registration.handler is handler
    assert registration.filter.text == "server port 80"
    assert registration.level is Level.BYTES
    assert registration.midstream
    assert (registration.overlap, registration.gaps) == ("last", "mark")


def test_decorators_can_be_stacked(app: App) -> None:
    app.monitor("port 80")(app.monitor("port 443")(handler))
    assert [registration.filter.text for registration in app.monitors] == ["port 443", "port 80"]


def test_a_bound_or_partial_handler_will_do(app: App) -> None:
    class Watcher:
        async def handle(self, conn: Any) -> None: ...

    async def to(out: Any, conn: Any) -> None: ...

    app.monitor()(Watcher().handle)
    app.monitor()(functools.partial(to, "out"))
    assert len(app.monitors) == 2


def test_a_wrong_filter_is_refused_before_any_function_is_seen(app: App) -> None:
    with pytest.raises(FilterSyntaxError):
        app.monitor("port of call")


@pytest.mark.parametrize(
    "wrong", [{"level": 3}, {"level": "stream"}, {"overlap": "middle"}, {"gaps": None}, {"gaps": ["raise"]}]
)
def test_a_wrong_argument_is_refused_by_name_with_what_is_allowed(app: App, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(RegistrationError, match=f"{name}=.*must be one of"):
        app.monitor(**wrong)


def test_a_decorator_without_parentheses_is_explained(app: App) -> None:
    with pytest.raises(RegistrationError, match=r"monitor\(\)"):
        app.monitor(handler)  # type: ignore[arg-type]


async def nothing() -> None: ...
async def two(conn: Any, other: Any) -> None: ...
async def keyword(*, conn: Any) -> None: ...
async def generator(conn: Any) -> Any:
    yield conn


def plain(conn: Any) -> None: ...


@pytest.mark.parametrize("wrong", [nothing, two, keyword, generator, plain, None, 3])
def test_what_cannot_be_a_handler_is_refused_by_name(app: App, wrong: Any) -> None:
    with pytest.raises(RegistrationError, match=getattr(wrong, "__name__", repr(wrong))):
        app.monitor()(wrong)
    assert app.monitors == []


# --- callbacks ------------------------------------------------------------------------------------
def test_a_callback_asks_for_what_it_names(app: App) -> None:
    @app.on(CONN_SETUP, filter="port 80")
    def count(time: float, flow: Any) -> None: ...

    assert app.callbacks == [count]
    assert count.event is CONN_SETUP
    assert count.filter.text == "port 80"
    assert count.parameters == ("time", "flow")


def test_a_decorated_callback_can_still_be_called(app: App) -> None:
    seen = []

    @app.on(CONN_TEARDOWN)
    def record(flow: Any) -> None:
        seen.append(flow)

    record("a flow")
    assert seen == ["a flow"]


def test_a_registration_can_be_cancelled_twice(app: App) -> None:
    first = app.on(CONN_SETUP)(lambda: None)
    second = app.on(CONN_SETUP)(lambda: None)
    first.cancel()
    first.cancel()
    assert app.callbacks == [second]
    assert (first.active, second.active) == (False, True)


@pytest.mark.parametrize("event", ["conn_setup", None, Level.STATE, handler])
def test_what_is_no_event_is_refused_with_those_that_are(app: App, event: Any) -> None:
    with pytest.raises(RegistrationError, match=r"such as aiomos\.CONN_SETUP"):
        app.on(event)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (lambda packet: packet, "'packet'.* pkt, flow, half, side, time, event, engine$"),
        (lambda occurrence: occurrence, "'occurrence'"),
        (lambda flow, extra=1: (flow, extra), "'extra'"),
        (lambda *flow: flow, r"\*flow"),
        (lambda **flow: flow, r"\*\*flow"),
        (lambda *, flow: flow, "flow"),
        (handler, "handler"),
        (generator, "generator"),
        (Options, "Options"),
        (None, "None"),
    ],
)
def test_what_cannot_be_a_callback_is_refused_by_name(app: App, wrong: Any, named: str) -> None:
    with pytest.raises(RegistrationError, match=named):
        app.on(CONN_SETUP)(wrong)
    assert app.callbacks == []


# --- start and end --------------------------------------------------------------------------------
def test_functions_for_start_and_end_may_be_plain_or_async(app: App) -> None:
    def open_output() -> None: ...

    assert app.startup(open_output) is open_output
    assert app.startup(nothing) is nothing
    assert app.shutdown(open_output) is open_output
    assert app.startup_functions == [open_output, nothing]
    assert app.shutdown_functions == [open_output]


def test_functions_for_start_and_end_may_name_the_engine(app: App) -> None:
    def plain(engine: Runtime) -> None: ...

    async def waits(engine: Runtime, limit: int = 3) -> None: ...

    for function in (plain, waits):
        assert app.startup(function) is function
        assert app.shutdown(function) is function
        assert asks_for_engine(function)
    assert not asks_for_engine(nothing)


def test_at_frames_a_filter_can_only_ask_for_vlans(app: App) -> None:
    """Such a frame has no ends."""
    function = app.on(FRAME, hook=Hook.RAW, filter="vlan 5 or not vlan")(lambda: None)
    odd = app.ude(FRAME, filter="vlan")(lambda pkt: pkt.ethertype == 0x0806)
    for wrong in ("tcp", "ip", "host 10.0.0.1", "vlan 5 and not port 80"):
        for event in (FRAME, odd):
            with pytest.raises(RegistrationError, match="vlan"):
                app.on(event, hook=Hook.RAW, filter=wrong)
            with pytest.raises(RegistrationError, match="vlan"):
                app.ude(event, filter=wrong)(lambda: True)
    assert app.callbacks == [function]


def test_frames_are_raised_before_any_flow_is_known(app: App) -> None:
    with pytest.raises(RegistrationError, match=r"Hook\.RAW"):
        app.on(FRAME)


def test_only_callbacks_can_ask_for_the_engine(app: App) -> None:
    def asks(engine: Runtime) -> None:
        assert engine

    assert app.on(CONN_SETUP)(asks).parameters == ("engine",)
    with pytest.raises(RegistrationError, match="'engine'"):
        app.ude(CONN_SETUP)(asks)


def _takes_two(engine: Runtime, other: int) -> None: ...


@pytest.mark.parametrize("wrong", [handler, None, "open", _takes_two])
def test_what_cannot_be_called_without_arguments_is_refused(app: App, wrong: Any) -> None:
    with pytest.raises(RegistrationError):
        app.startup(wrong)
    with pytest.raises(RegistrationError):
        app.shutdown(wrong)
