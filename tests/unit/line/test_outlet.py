"""What an outlet may do: send, forward, have apps decide; three facts, each of which stands by itself."""

from __future__ import annotations

from typing import Any

import pytest

from aiomos import CONN_SETUP, App, Flow, Runtime, Settings, serve
from aiomos.errors import NotInLineError
from aiomos.testing.hosts import TcpHost
from aiomos.transport.sim import Network
from tests.traffic import in_loop

probe: Any = pytest.importorskip("tests.native._probe_engine", reason="needs the native test probes")


def run(*, in_line: bool, decides: bool) -> tuple[list[str], str | None, tuple[bool, bool]]:
    """Have an app drop a connection that is set up: what it was told, how the flow ended, may_send and forwards."""
    network = Network(seed=1)
    server = TcpHost("10.0.0.2", 80)
    client = TcpHost("10.0.0.1", 1234, data=b"hello", peer=("10.0.0.2", 80))
    middlebox = network.middlebox(client, server, in_line=in_line)
    client.connect()
    app = App("drops")
    told: list[str] = []
    flows: list[Flow] = []
    facts: list[tuple[bool, bool]] = []

    @app.startup
    def start(engine: Runtime) -> None:
        if decides:
            facts.append(probe.let_apps_decide(engine.engine))

    @app.on(CONN_SETUP)
    def drop(flow: Flow) -> None:
        flows.append(flow)
        try:
            flow.drop()
        except NotInLineError:
            told.append("not in line")
        else:
            told.append("dropped")

    in_loop(serve(app, transport=middlebox, settings=Settings(on_error="raise")), "asyncio")
    (flow,) = flows
    return told, flow.reason, facts[0] if facts else (True, in_line)


def test_who_watches_decides_nothing() -> None:
    told, reason, _ = run(in_line=False, decides=False)
    assert (told, reason == "dropped") == (["not in line"], False)


def test_in_line_apps_decide() -> None:
    assert run(in_line=True, decides=False)[:2] == (["dropped"], "dropped")


def test_apps_may_decide_where_nothing_is_forwarded() -> None:
    assert run(in_line=False, decides=True) == (["dropped"], "dropped", (True, False))
