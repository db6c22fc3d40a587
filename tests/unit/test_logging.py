"""Logging: where records go and what they hold."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

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


# --- as a guest -----------------------------------------------------------------------------------------

PROGRAM = """\
import asyncio, sys
import aiomos
{set_up}
app = aiomos.App("guest")

@app.monitor()
async def heads(conn):
    raise LookupError("of its own")

asyncio.run(aiomos.serve(app, pcap=[{capture!r}]))
"""
CAPTURE = str(Path(__file__).parents[1] / "data" / "http.pcap")
FLOW = r"192\.0\.2\.1:\d+ -> 192\.0\.2\.2:\d+"


def guest(set_up: str) -> "subprocess.CompletedProcess[str]":
    """Run a program that has a failing app, after some lines of its own."""
    program = PROGRAM.format(set_up=set_up, capture=CAPTURE)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_program_that_configures_nothing_has_errors_on_standard_error() -> None:
    done = guest("")
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith("handler_failed app='guest' ")]) == 2
    assert lines.count("LookupError: of its own") == 2


def test_records_go_where_logging_has_them_go() -> None:
    form = "%(name)s|%(levelname)s|%(message)s"
    done = guest(f"import logging; logging.basicConfig(stream=sys.stdout, format={form!r})")
    assert done.stderr == ""
    assert re.search(rf"^aiomos\|ERROR\|handler_failed app='guest'.*flow='{FLOW}'", done.stdout, re.M)


def test_a_level_that_logging_was_given_holds() -> None:
    done = guest("import logging; logging.getLogger('aiomos').setLevel(logging.CRITICAL)")
    assert (done.stdout, done.stderr) == ("", "")


def test_records_go_where_structlog_has_them_go() -> None:
    done = guest(
        "import structlog; structlog.configure("
        "processors=[lambda _l, level, record: repr((level, record['event'], record['component']))],"
        "logger_factory=structlog.PrintLoggerFactory(sys.stdout))"
    )
    assert done.stdout == "('error', 'handler_failed', 'aiomos')\n" * 2
    assert done.stderr == ""


def test_names_are_below_that_of_aiomos(caplog: pytest.LogCaptureFixture) -> None:
    logging.get_logger("dump").warning("too_many", files=3, path="a b")
    logging.get_logger("aiomos.console.control").warning("crowded")
    logging.get_logger("dump").debug("nothing much")
    assert caplog.record_tuples == [
        ("aiomos.dump", 30, "too_many files=3 path='a b'"),
        ("aiomos.console.control", 30, "crowded"),
    ]
