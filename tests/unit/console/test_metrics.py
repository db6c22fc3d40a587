"""Metrics, as Prometheus would scrape them."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from prometheus_client import REGISTRY, Counter
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from aiomos import App, Budgets, Runtime, Settings
from aiomos.console import metrics as module
from aiomos.console import wsgi_server
from aiomos.console.metrics import Exporter, families, parse_address
from aiomos.console.snapshot import Snapshot, take
from aiomos.engine.engine import Engine
from aiomos.errors import OptionError
from tests.traffic import Traffic

pass_time = threading.Event()
"""Never set."""

COUNTERS = {
    **Engine(Settings(), bytes(16), print).statistics(),
    "transport.received": 100,
    "transport.dropped": 3,
    "transport.unsent_too_long": 2,
    "transport.eth0.dropped": 1,
    "handlers_ended.StreamGap": 2,
    "handler_errors": 1,
    "half_open": 4,
    "closed": 5,
    "open": 20,
    "held_bytes": 2048,
}
ONE = Snapshot(
    counters=COUNTERS,
    apps={"watch": {"callbacks": 7, "callback_seconds": 0.5, "handlers": 2, "flows": 9, "errors": 1}},
    budgets=Budgets(held_bytes=4096),
)


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter("127.0.0.1:0") as exporter:
        yield exporter


def fetch(exporter: Exporter) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


def values(text: str) -> dict[tuple[str, ...], float]:
    """Samples by name and the values of their labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(exporter: Exporter, *snapshots: Snapshot) -> dict[tuple[str, ...], float]:
    async def read() -> Sequence[Snapshot]:
        return snapshots

    exporter.read_from(read)
    return values(await asyncio.to_thread(fetch, exporter))


async def test_a_scrape_gives_the_values_of_the_moment(exporter: Exporter) -> None:
    got = await scraped(exporter, ONE)
    assert got["aiomos_drops_total", "kernel", "0"] == 3
    assert got["aiomos_drops_total", "unsent_too_long", "0"] == 2
    assert got["aiomos_transport_total", "received", "0"] == 100
    assert got["aiomos_interface_total", "dropped", "eth0", "0"] == 1
    assert got["aiomos_handlers_ended_total", "StreamGap", "0"] == 2
    assert got["aiomos_app_callback_seconds_total", "watch", "0"] == 0.5
    assert got["aiomos_app_flows", "watch", "0"] == 9


async def test_flows_by_state_and_memory_against_its_budget(exporter: Exporter) -> None:
    got = await scraped(exporter, ONE)
    states = {state: got["aiomos_flows", state, "0"] for state in ("half_open", "established", "closed")}
    assert states == {"half_open": 4, "established": 11, "closed": 5}
    assert got["aiomos_memory_bytes", "held", "0"] == 2048
    assert got["aiomos_memory_limit_bytes", "held", "0"] == 4096


async def test_each_worker_has_its_label_and_a_dead_one_is_down(exporter: Exporter) -> None:
    dead = Snapshot(worker=1, up=False, restarts=3)
    got = await scraped(exporter, ONE, dead)
    assert got["aiomos_worker_up", "0"] == 1
    assert got["aiomos_worker_up", "1"] == 0
    assert got["aiomos_worker_restarts_total", "1"] == 3
    assert ("aiomos_frames_total", "1") not in got


async def test_what_an_app_counts_by_the_library_is_there(exporter: Exporter) -> None:
    counter = Counter("watch_requests", "Requests.", ["method"])
    try:
        counter.labels("GET").inc(5)
        got = await scraped(exporter, ONE)
    finally:
        REGISTRY.unregister(counter)
    assert got["watch_requests_total", "GET"] == 5


def test_every_counter_of_the_engine_has_a_metric_of_its_own() -> None:
    assert "aiomos_other" not in {family.name for family in families([ONE])}


def samples_of(snapshot: Snapshot) -> dict[str, dict[tuple[str, ...], float]]:
    """Values by the name of the metric and its labels, without the worker."""
    return {
        family.name.removeprefix("aiomos_"): {
            tuple(value for name, value in sample.labels.items() if name != "worker"): sample.value
            for sample in family.samples
        }
        for family in families([snapshot])
    }


RENAMED = {
    "orphans": "orphan_segments",
    "transport.dropped": "drops kernel",
    "in_line.dropped": "drops verdict",
}
"""Counters whose last word is in neither the name nor the labels of their metric, and what is there in its place."""


def test_each_counter_is_told_once_and_under_its_own_name() -> None:
    """All have values of their own, so that two that are mixed up are seen."""
    counters = {
        name: 1000 + number
        for number, name in enumerate(name for name in COUNTERS if name not in module.SHOWN_OTHERWISE)
    }
    told = {
        value: " ".join((metric, *labels))
        for metric, samples in samples_of(Snapshot(counters=counters)).items()
        if not metric.endswith("_limit") and not metric.endswith("_limit_bytes")
        for labels, value in samples.items()
        if value >= 1000
    }
    assert sorted(told) == sorted(counters.values())
    for name, value in counters.items():
        if name in RENAMED:
            assert told[value] == RENAMED[name]
        else:
            assert re.split(r"[._]", name)[-1] in re.split(r"[._ ]", told[value]), name


def test_drops_are_told_apart_by_cause() -> None:
    counters = {
        "transport.dropped": 1,
        "in_line.dropped": 2,
        "in_line.no_room": 3,
        "transport.unsent_down": 4,
    }
    drops = samples_of(Snapshot(counters=counters))["drops"]
    assert drops == {("kernel",): 1, ("verdict",): 2, ("no_room",): 3, ("unsent_down",): 4}


def test_flows_and_memory_are_told_with_their_budgets() -> None:
    used = {"open": 20, "half_open": 4, "closed": 5, "held_bytes": 6, "kept_bytes": 7, "unread_bytes": 8}
    budgets = Budgets(
        flows=101, half_open=102, held_bytes=103, kept_bytes=104, stream_bytes_total=105, fragment_bytes=106
    )
    shown = samples_of(Snapshot(counters={**used, "defrag.held_bytes": 9}, budgets=budgets))
    assert shown["flows"] == {("half_open",): 4, ("established",): 11, ("closed",): 5}
    assert shown["flows_limit"] == {("all",): 101, ("half_open",): 102}
    assert shown["memory_bytes"] == {("held",): 6, ("kept",): 7, ("unread",): 8, ("fragments",): 9}
    assert shown["memory_limit_bytes"] == {
        ("held",): 103,
        ("kept",): 104,
        ("unread",): 105,
        ("fragments",): 106,
    }


def test_each_figure_of_an_app_has_its_metric() -> None:
    figures = {name: 10.0 + number for number, name in enumerate(module.APP_FIGURES)}
    shown = samples_of(
        Snapshot(apps={"watch": figures, "other": {name: -value for name, value in figures.items()}})
    )
    for name, definition in module.APP_FIGURES.items():
        assert shown[definition.name] == {("watch",): figures[name], ("other",): -figures[name]}
    assert [definition.name for definition in module.APP_FIGURES.values()] == [
        *("app_callbacks", "app_callback_seconds", "app_handler_seconds", "app_stream_bytes", "app_errors"),
        *("app_unread_bytes", "app_flows", "app_handlers"),
    ]


async def test_the_figures_of_an_app_are_those_that_a_run_gives() -> None:
    app = App("watch")
    async with Runtime(source=Traffic().source()) as runtime:
        await runtime.attach(app)
        assert runtime.app_statistics()[app].keys() == module.APP_FIGURES.keys()


def test_a_counter_that_is_not_known_is_not_lost() -> None:
    (other,) = [f for f in families([Snapshot(counters={"new.thing": 4})]) if f.name == "aiomos_other"]
    assert [(sample.labels["counter"], sample.value) for sample in other.samples] == [("new.thing", 4)]


@pytest.mark.parametrize("family", families([ONE]), ids=lambda family: family.name)
def test_names_keep_to_the_rules_that_promtool_checks(family: Metric) -> None:
    assert re.fullmatch(r"aiomos_[a-z][a-z0-9_]*", family.name)
    assert family.documentation.endswith(".")
    assert not family.name.endswith("_total")  # the library appends it, to counters alone
    assert not any(
        f"{unit}_" in f"{family.name}_" and not family.name.endswith(unit) for unit in ("_seconds",)
    )
    for sample in family.samples:
        assert sample.name.endswith("_total") == (family.type == "counter")
        assert all(re.fullmatch(r"[a-z_]+", label) for label in sample.labels)
        assert not {"le", "quantile", "job", "instance"} & sample.labels.keys()


def test_before_the_run_has_begun_a_scrape_is_refused(exporter: Exporter) -> None:
    with pytest.raises(urllib.error.HTTPError, match="503") as raised:
        fetch(exporter)
    assert "has not begun" in raised.value.read().decode()
    raised.value.close()


async def test_a_loop_that_is_stuck_fails_the_scrape(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCRAPE_SECONDS", 0.05)
    refused = threading.Event()
    bodies: list[str] = []

    def scrape() -> None:
        try:
            fetch(exporter)
        except urllib.error.HTTPError as error:
            bodies.append(error.read().decode())
            error.close()
        refused.set()

    async def read() -> Sequence[Snapshot]:
        return [ONE]

    exporter.read_from(read)
    thread = threading.Thread(target=scrape)
    thread.start()
    assert refused.wait(20)  # the loop hangs, in this very call
    thread.join()
    assert "has not answered within 0.05 s" in bodies[0]


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="choose another --metrics address") as raised:
            Exporter(address)
    assert raised.value.filename == address


@pytest.mark.parametrize("text", ["9187", "host", "host:", "host:port", ":70000", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no address for metrics"):
        parse_address(text)


def test_without_a_host_it_is_all_addresses() -> None:
    assert parse_address(":9187")[0] in ("::", "0.0.0.0")
    assert parse_address("[::1]:9187") == ("::1", 9187)
    assert parse_address("127.0.0.1:0") == ("127.0.0.1", 0)


def test_a_snapshot_names_apps_as_the_control_socket_does() -> None:
    class Two:
        apps = (App("watch"), App("watch"))

        def statistics(self) -> dict[str, int]:
            return {"frames": 1}

        def app_statistics(self) -> dict[App, dict[str, float]]:
            return {app: {"callbacks": number} for number, app in enumerate(self.apps)}

    taken = take(Two(), Budgets())  # type: ignore[arg-type]
    assert taken.apps == {"watch": {"callbacks": 0}, "watch#2": {"callbacks": 1}}


# --- clients that mean no good ------------------------------------------------------------------------


def connect(exporter: Exporter, said: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", exporter.port), timeout=20)
    client.sendall(said)
    return client


def is_hung_up(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


async def test_idle_connections_make_room_and_hold_no_threads(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsgi_server, "MOST_CONNECTIONS", 8)
    before = threading.active_count()
    with ExitStack() as idle:
        clients = [idle.enter_context(connect(exporter, b"GET /metr")) for _ in range(40)]
        got = await scraped(exporter, ONE)  # the newest is served, however many there are
        assert got["aiomos_worker_up", "0"] == 1
        assert all(is_hung_up(client) for client in clients[:33])
        clients[-1].sendall(b"ics HTTP/1.1\r\n\r\n")
        assert await asyncio.to_thread(clients[-1].recv, 15) == b"HTTP/1.0 200 OK"
        assert threading.active_count() <= before + wsgi_server.THREADS + 1  # and that of to_thread()
    assert exporter._server.hung_up == 33


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nA"])
def test_who_does_not_come_to_an_end_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """By a time for the whole request: a byte now and then does not help."""
    monkeypatch.setattr(wsgi_server, "REQUEST_SECONDS", 0.05)
    with Exporter("127.0.0.1:0") as exporter, connect(exporter, said) as client:
        assert is_hung_up(client)


def test_who_does_not_take_the_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wsgi_server, "REQUEST_SECONDS", 0.2)
    counter = Counter("watch_much", "Much.", ["label"])
    try:
        for number in range(20_000):
            counter.labels(f"{number:0500}")
        with Exporter("127.0.0.1:0") as exporter:
            server = exporter._server
            REGISTRY.unregister(exporter)
            with socket.socket() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(20)
                client.connect(("127.0.0.1", exporter.port))
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert client.recv(15) == b"HTTP/1.0 200 OK"
                while server._answered:
                    pass_time.wait(0.01)
            REGISTRY.register(exporter)
    finally:
        REGISTRY.unregister(counter)


@pytest.mark.parametrize(
    "said", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET metrics HTTP/1.1\r\n\r\n", b"\xff\0 / X\r\n\r\n"]
)
def test_what_is_no_request_is_refused(exporter: Exporter, said: bytes) -> None:
    with connect(exporter, said) as client:
        assert client.recv(100).startswith(b"HTTP/1.0 400 ")


def test_a_request_that_never_ends_is_hung_up_on(exporter: Exporter) -> None:
    with connect(exporter) as client:
        client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * wsgi_server.LONGEST_REQUEST)
        assert is_hung_up(client)


async def test_the_end_does_not_wait_for_a_scrape() -> None:
    exporter = Exporter("127.0.0.1:0")
    begun = asyncio.Event()

    async def read() -> Sequence[Snapshot]:
        begun.set()
        await asyncio.Event().wait()
        return ()

    exporter.read_from(read)
    with connect(exporter, b"GET / HTTP/1.0\r\n\r\n"):
        await begun.wait()
        await asyncio.wait_for(asyncio.to_thread(exporter.close), 2)
    assert all(future.cancelled() for future in [*exporter._asked])  # its thread may be about to take it out
