"""Logging: where records go and what they hold."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from aiomos import logging


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_json_records_are_one_object_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("json", "info")
    logging.get_logger("engine").warning("evicted", flow="10.0.0.1:1 -> 10.0.0.2:2")
    captured = capsys.readouterr()
    record = json.loads(captured.err)
    assert captured.out == ""
    assert {key: record[key] for key in ("event", "level", "component", "flow")} == {
        "event": "evicted",
        "level": "warning",
        "component": "engine",
        "flow": "10.0.0.1:1 -> 10.0.0.2:2",
    }


@pytest.mark.parametrize("format_", ["console", "json"])
def test_tracebacks_show_the_exception_but_no_variables(
    format_: logging.LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.configure(format_)
    try:
        payload = b"secret" * 2
        raise LookupError(len(payload))
    except LookupError:
        logging.get_logger("app").exception("handler failed")
    shown = capsys.readouterr().err
    assert "LookupError" in shown
    assert "secretsecret" not in shown


def test_records_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logging.configure("json", "warning")
    logging.get_logger("engine").info("nothing much")
    assert capsys.readouterr().err == ""


def test_structlog_is_not_imported_before_there_is_a_logger() -> None:
    program = (
        "import sys; from aiomos import logging; logging.configure(); sys.exit('structlog' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
