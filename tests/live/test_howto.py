"""The how-tos' commands, as the pages have them, between hosts whose interfaces have the pages' names."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.conftest import Line
from tests.live.network import COMMAND_SECONDS, Host
from tests.live.programs import ROOT, curl, echo, exchange, program, serve, until

PAGES = ROOT / "docs" / "howto"
EXAMPLES = ROOT / "docs" / "examples"
SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = 80
CONTROL = "/run/user/1000/aiomos.sock"

FUNCTIONS = f"""
aiomos() {{ {shlex.quote(sys.executable)} -m aiomos "$@"; }}
sudo() {{ "$@"; }}
ssh() {{ shift; "$@"; }}
"""

WATCHING = [
    "sudo aiomos run flowlog --iface eth0 --setting timeouts.time_wait=1 --setting timeouts.reset=1",
    "sudo aiomos run flowlog --iface eth0",
    ".venv/bin/python-live -m aiomos run flowlog --iface eth0",
    "aiomos run flowlog --iface eth0 --workers 4 --set path=flows.jsonl",
    "aiomos run flowlog --iface eth0 --set path=flows.jsonl --metrics :9187",
]
TOPS = [
    "sudo aiomos run top --iface eth0,eth1",
    "ssh gateway sudo tcpdump -i eth0 -U -w - not port 22 | aiomos run top --pcap -",
]
CONTROLLED = (
    f"tcpdump -i eth0 -U -w - tcp | aiomos run flowlog --set path=flows.jsonl --pcap - --control {CONTROL}"
)
CTL = [
    f"aiomos ctl {CONTROL} attach watch.py:app --set ports=80,8080    # attached watch",
    f"aiomos ctl {CONTROL} apps",
    f"aiomos ctl {CONTROL} flows server port 443 --limit 10",
    f"aiomos ctl {CONTROL} stats --json",
    f"aiomos ctl {CONTROL} detach watch",
]
IN_LINE = "sudo aiomos run firewall --bridge eth0 eth1 --set rules=firewall.toml"
TAP = "sudo aiomos run watch.py --tap tap0 &"
TAP_ADDRESS = "sudo ip address add 10.9.0.1/24 dev tap0"
DOCTOR = [
    "aiomos doctor               # the machine, and all interfaces that are up",
    "aiomos doctor eth0 eth1",
    "aiomos doctor --json        # an object a line: subject, name, verdict, value, advice",
]
OFFLINE = [
    "aiomos run flowlog dump watch.py --pcap trace.pcap --set flowlog.path=flows.jsonl --set dump.directory=streams",
    "aiomos run flowlog --pcap trace.pcap --workers 4 --set path=flows.jsonl",
]
TESTED = {*WATCHING, *TOPS, CONTROLLED, *CTL, IN_LINE, TAP, TAP_ADDRESS, *DOCTOR, *OFFLINE}


def commands() -> Iterator[str]:
    """Yield the pages' commands that concern aiomos, and what is typed after one in the background."""
    for page in sorted(PAGES.glob("*.md")):
        for block in SHELL_BLOCK.findall(page.read_text()):
            background = False
            for line in block.splitlines():
                if background or re.search(r"\baiomos (run|ctl|doctor|apps)\b", line):
                    yield line
                background = line.endswith("&")


def test_these_are_the_commands_of_the_pages() -> None:
    found = list(commands())
    assert set(found) == TESTED
    assert len(found) == len(TESTED)


class Shell:
    """A command of a page that runs in a host, as in a folder with the files that pages speak of.

    Attributes:
        folder: The folder.
    """

    def __init__(self, host: Host, folder: Path, command: str) -> None:
        self.folder = folder
        self._out, self._err = folder / "stdout", folder / "stderr"
        script = f"{FUNCTIONS}{command.replace(CONTROL, str(folder / 'aiomos.sock'))}"
        if command.endswith("&"):
            script += "\nwait"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = host.start(
                ["bash", "-c", script],
                stdout=out,
                stderr=err,
                cwd=folder,
                process_group=0,
                env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def until_said(self, text: str, *, times: int = 1) -> None:
        """Wait for a text on standard error."""

        def look() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended with status {self.process.returncode}:\n{self.err}")
            return self.err.count(text) >= times

        until(f"it says {text!r}", look)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Press Ctrl-C, and return the status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(COMMAND_SECONDS)


Begin = Callable[..., Shell]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Run a command of a page in a host."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "watch.py").write_text((EXAMPLES / "port_log.py").read_text().replace('"port_log"', '"watch"'))
    shutil.copy(EXAMPLES / "firewall.toml", folder)
    interpreter = folder / ".venv" / "bin" / "python-live"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    interpreter.chmod(0o755)
    shutil.copy(ROOT / "tests" / "data" / "http.pcap", folder / "trace.pcap")
    return lambda host, command: Shell(host, folder, command)


def finish(host: Host, shell: Shell, command: str) -> str:
    """Run another command of a page there, to its end."""
    script = f"{FUNCTIONS}{command.replace(CONTROL, str(shell.folder / 'aiomos.sock'))}"
    with host.inside():
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=shell.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def talk(line: Line) -> None:
    """Have the hosts say something to each other."""
    assert exchange(line.client.connect(line.server.address, PORT), b"GET / HTTP/1.0\r\n\r\n")


# --- watching -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", WATCHING)
def test_flowlog_logs_what_is_said_while_it_watches(watched: Line, begin: Begin, command: str) -> None:
    serve(watched.server, PORT, echo)
    shell = begin(watched.middle, command)
    shell.until_said("ready", times=4 if "--workers 4" in command else 1)
    talk(watched)
    path = shell.folder / "flows.jsonl"

    def log() -> str:
        return path.read_text() if "path=" in command else shell.out

    if "time_wait=1" in command:  # a second after its end it is there, though the run goes on
        until("the record is written", lambda: f'"server_port":{PORT}' in log(), seconds=10)
        assert shell.process.poll() is None
    if "--metrics" in command:
        page = curl(watched.middle, "http://127.0.0.1:9187/metrics").decode()
        assert re.search(r"^aiomos_flows_seen_total(\{.*\})? [1-9]", page, re.MULTILINE)
    assert shell.stop() == 0, shell.err
    records = [json.loads(text) for text in log().splitlines()]
    assert [(each["server_port"], each["midstream"]) for each in records if each["server_port"] == PORT] == [
        (PORT, False)
    ]


def test_what_was_open_before_is_logged_and_marked(watched: Line, begin: Begin) -> None:
    serve(watched.server, PORT, echo)
    with watched.client.connect(watched.server.address, PORT) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        shell = begin(watched.middle, WATCHING[1])
        shell.until_said("ready")
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"
        assert shell.stop() == 0, shell.err
    (record,) = map(json.loads, shell.out.splitlines())
    assert (record["server_port"], record["midstream"], record["client_mss"]) == (PORT, True, None)
    assert record["client_stream_bytes"] == record["server_stream_bytes"] == 5


@pytest.mark.parametrize("command", TOPS)
def test_top_shows_what_is_said_while_it_watches(watched: Line, begin: Begin, command: str) -> None:
    if "tcpdump" in command:
        program("tcpdump")
    serve(watched.server, PORT, echo)
    shell = begin(watched.middle, command)
    shell.until_said("listening on" if "tcpdump" in command else "ready")

    def shown() -> bool:
        talk(watched)
        return f"{watched.server.address}:{PORT}" in shell.out

    until("top shows the connection", shown, seconds=20)
    assert shell.process.poll() is None
    shell.stop()


# --- a service ------------------------------------------------------------------------------------------


def test_apps_come_and_go_while_a_pipe_is_read(watched: Line, begin: Begin) -> None:
    program("tcpdump")
    serve(watched.server, PORT, echo)
    shell = begin(watched.middle, CONTROLLED)
    shell.until_said("listening on")
    talk(watched)
    until("the socket is there", (shell.folder / "aiomos.sock").exists)
    said = []
    for command in CTL:
        said.append(finish(watched.middle, shell, command))
        if "attach" in command:
            talk(watched)
            until("the app prints", lambda: "GET / HTTP/1.0" in shell.out, seconds=20)
    attached, apps, flows, stats, detached = said
    assert attached == "attached watch\n"
    assert [row.split()[0] for row in apps.splitlines()] == ["name", "flowlog", "watch"]
    assert flows == "no open flows\n"
    assert json.loads(stats)["counters"]["flows"] >= 2
    assert detached == "detached watch\n"
    shell.stop()


# --- in line and devices --------------------------------------------------------------------------------


def test_the_firewall_stands_between_the_interfaces(in_line: Line, begin: Begin) -> None:
    serve(in_line.server, PORT, echo)
    shell = begin(in_line.middle, IN_LINE)
    shell.until_said("ready")
    talk(in_line)
    with pytest.raises(TimeoutError):  # from outside nobody gets in
        in_line.server.connect(in_line.client.address, PORT, timeout=1)
    assert shell.stop() == 0, shell.err


def test_a_device_takes_what_the_kernel_sends_into_it(in_line: Line, begin: Begin) -> None:
    program("ip")
    shell = begin(in_line.middle, TAP)
    shell.until_said("ready")
    finish(in_line.middle, shell, TAP_ADDRESS)
    assert "10.9.0.1/24" in finish(in_line.middle, shell, "ip address show dev tap0")
    shell.stop(signal.SIGTERM)


@pytest.mark.parametrize("command", DOCTOR)
def test_the_doctor_looks_at_these_interfaces(in_line: Line, begin: Begin, command: str) -> None:
    shell = begin(in_line.middle, command)
    assert shell.process.wait(COMMAND_SECONDS) in (0, 1)
    assert "eth0" in shell.out
    assert "eth1" in shell.out
    if "--json" in command:
        rows = [json.loads(text) for text in shell.out.splitlines()]
        assert {*rows[0]} == {"subject", "name", "verdict", "value", "advice"}


@pytest.mark.parametrize("command", OFFLINE)
def test_captures_are_read_as_the_pages_say(in_line: Line, begin: Begin, command: str) -> None:
    shell = begin(in_line.middle, command)
    assert shell.process.wait(COMMAND_SECONDS) == 0, shell.err
    assert len((shell.folder / "flows.jsonl").read_text().splitlines()) == 2
    if "streams" in command:
        assert len(list((shell.folder / "streams").iterdir())) == 4
