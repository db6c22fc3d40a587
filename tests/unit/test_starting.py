"""A start-up that fails leaves nothing behind; that no file stays open is seen to after each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

import aiomos
from aiomos import CONN_TEARDOWN, App, FilterSyntaxError
from aiomos.apps import abacus, account, assets, dump, flowlog, rexmit, top
from aiomos.outputs import open_output
from aiomos.starting import undone_on_failure
from tests.traffic import Traffic

APPS: dict[str, tuple[App[Any], dict[str, Any]]] = {
    "flowlog": (flowlog.app, {}),
    "flowlog table": (flowlog.app, {"format": "table"}),
    "rexmit": (rexmit.app, {}),
    "abacus": (abacus.app, {}),
    "account": (account.app, {}),
    "account prometheus": (account.app, {"format": "prometheus", "interval": 10.0, "path": None}),
    "assets": (assets.app, {}),
    "top": (top.app, {"format": "jsonl"}),
    "dump": (dump.app, {"path": None}),
}


def some_traffic() -> Traffic:
    traffic = Traffic()
    conn = traffic.connection()
    conn.client(b"GET /")
    conn.close()
    return traffic


@pytest.mark.parametrize("name", APPS)
def test_an_app_whose_filter_is_wrong(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has opened its output before: that is closed, and its next start is as the first."""
    app, options = APPS[name]
    monkeypatch.chdir(tmp_path)
    given = {"path": tmp_path / "out"} | options
    given = {key: value for key, value in given.items() if value is not None}
    metrics = {family.name for family in REGISTRY.collect()}
    for _ in range(2):
        app.options = type(app.options)(filter="tcp prot 80", **given)
        with pytest.raises(FilterSyntaxError):
            aiomos.run(app, source=some_traffic().source())
        assert (app.callbacks, app.monitors, app.runtimes) == ([], [], [])
        assert {family.name for family in REGISTRY.collect()} == metrics
    assert capsys.readouterr().out == ""
    app.options = type(app.options)(filter="tcp port 80", **given)
    report = aiomos.run(app, source=some_traffic().source())
    assert report.counters["flows"] == 1


def test_what_is_undone_is_undone_the_last_first_whatever_it_raises(tmp_path: Path) -> None:
    app: App[None] = App("failing")
    undone: list[str] = []

    def undo(name: str) -> None:
        undone.append(name)
        raise ZeroDivisionError

    @app.startup
    def first() -> None:
        undone_on_failure(lambda: undo("first"))
        app.on(CONN_TEARDOWN)(lambda: None)

    @app.startup
    async def second() -> None:
        open_output(tmp_path / "out")
        undone_on_failure(lambda: undo("second"))
        raise LookupError

    with pytest.raises(LookupError):
        aiomos.run(app, source=some_traffic().source())
    assert undone == ["second", "first"]
    assert app.callbacks == []


def test_what_has_started_is_not_undone() -> None:
    app: App[None] = App("good")
    undone: list[str] = []

    @app.startup
    def first() -> None:
        undone_on_failure(lambda: undone.append("first"))

    aiomos.run(app, source=some_traffic().source())
    undone_on_failure(lambda: undone.append("elsewhere"))
    assert undone == []
