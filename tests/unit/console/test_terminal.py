"""Wide tables: whole where there is room, or no terminal, and readable where a terminal is narrow.

How they look is kept in tests/data/terminal. After a change of it,
PYTHONPATH=. python tests/unit/console/test_terminal.py writes them anew.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiomos.console.doctor import Finding
from aiomos.console.terminal import WHOLE, Layout, show_findings, show_flows, wide_table

ROOT = Path(__file__).parents[3]
SHEETS = ROOT / "tests" / "data" / "terminal"
DATA = "tests/data"
SESSION_SECONDS = 60.0

COMMANDS = {
    "top": f"top --set interval=0 --pcap {DATA}/http.pcap {DATA}/ipv6.pcap {DATA}/hard/midstream.pcap",
    "rexmit": f"rexmit --pcap {DATA}/loss_sender.pcap {DATA}/zero_window.pcap {DATA}/keepalive.pcap",
    "flowlog": f"flowlog --pcap {DATA}/http.pcap {DATA}/ipv6.pcap {DATA}/loss_sender.pcap --set format=table",
    "assets": f"assets --pcap {DATA}/http.pcap {DATA}/tls.pcap --set format=table",
}
WIDTHS = (80, 120)

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Terminal:
    """A terminal of tmux.

    Args:
        folder: Where its socket is.
        width: Characters of a line.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", os.devnull]
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PS1": "$ ", "NO_COLOR": "1", "COLUMNS": ""}
        for name in ("TMUX", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self._run(
            *("new-session", "-d", "-x", str(width), "-y", "60", "-c", str(ROOT)),
            *("env", "PS1=$ ", f"PYTHONPATH={ROOT}", "bash", "--norc", "--noprofile"),
            environment=environment,
        )
        self.until("$")

    def _run(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        return subprocess.run(
            [*self._tmux, *arguments], check=True, capture_output=True, text=True, env=environment
        ).stdout

    def type(self, text: str) -> None:
        self._run("send-keys", "-l", text)

    def enter(self, text: str) -> None:
        self.type(text)
        self._run("send-keys", "Enter")

    def screen(self) -> str:
        return "".join(f"{line.rstrip()}\n" for line in self._run("capture-pane", "-p").splitlines())

    def until(self, text: str) -> str:
        """Look again and again until the screen has a text."""
        deadline = time.monotonic() + SESSION_SECONDS
        while text not in (screen := self.screen()):
            assert time.monotonic() < deadline, f"{text!r} does not come:\n{screen}"
            time.sleep(0.02)
        return screen

    def close(self) -> None:
        self._run("kill-server")


def aiomos(arguments: str) -> str:
    return f"{shlex.quote(sys.executable)} -m aiomos run {arguments}"


def on_terminal(folder: Path, width: int, arguments: str) -> str:
    """Return what a run shows on a terminal, from one mark to the other."""
    terminal = Terminal(folder, width)
    try:
        terminal.enter(f"clear; {aiomos(arguments)} 2>/dev/null; echo status $?")
        screen = terminal.until("status 0")
        return screen.partition("status 0")[0]
    finally:
        terminal.close()


def in_a_pipe(arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("COLUMNS", None)
    done = subprocess.run(
        ["bash", "-c", aiomos(arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


@needs_tmux
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_it_looks_as_it_did_on_a_terminal(name: str, width: int, tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, width, COMMANDS[name])
    assert shown == (SHEETS / f"{name}.{width}").read_text()
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize("name", COMMANDS)
def test_it_looks_as_it_did_in_a_pipe_and_is_whole(name: str) -> None:
    shown = in_a_pipe(COMMANDS[name])
    assert shown == (SHEETS / f"{name}.pipe").read_text()
    assert "…" not in shown


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path, 120)
    yield terminal
    terminal.close()


@needs_tmux
def test_q_leaves_top_and_the_terminal_as_it_was(wide: Terminal) -> None:
    wide.enter(
        "mkfifo /tmp/aiomos-$$.fifo; (cat tests/data/http.pcap; exec sleep 100) > /tmp/aiomos-$$.fifo &"
    )
    wide.enter(
        f"clear; {aiomos('top --pcap /tmp/aiomos-$$.fifo --set interval=0.0001')} 2>/dev/null; echo status $?"
    )
    wide.until("192.0.2.2:80")
    wide.type("q")
    wide.until("status 0")
    wide.enter(
        "clear; kill %1; rm /tmp/aiomos-$$.fifo; stty -a | grep -o -w -e '-*icanon' -e '-*echo'; echo and no more"
    )
    assert {"icanon", "echo"} <= set(wide.until("\nand no more").split())


# --- layouts ----------------------------------------------------------------------------------------


HEADINGS = ("client", "server", "what was sent", "empty", "rtt")
ROWS = [
    ("[2001:db8::1]:40000", "[2001:db8::2]:80", "1,234,567", "", "12.3 ms"),
    ("10.0.0.1:40000", "10.0.0.2:80", "89", "", ""),
]
LAYOUT = Layout(stacked=[("client", "server")], spare=["rtt", "what was sent"])


def drawn(width: int) -> list[str]:
    from rich.console import Console

    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(wide_table("", HEADINGS, ROWS, width, LAYOUT))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            80,
            [
                "client               server            what was sent  empty      rtt",
                "[2001:db8::1]:40000  [2001:db8::2]:80      1,234,567         12.3 ms",
                "10.0.0.1:40000       10.0.0.2:80                  89",
            ],
        ),
        (
            52,
            [
                "                          what",
                "client                     was",
                "server                    sent  empty      rtt",
                "[2001:db8::1]:40000  1,234,567         12.3 ms",
            ],
        ),
        (
            32,
            [
                "                          what",
                "client                     was",
                "server                    sent",
                "[2001:db8::1]:40000  1,234,567",
                "[2001:db8::2]:80",
                "10.0.0.1:40000              89",
                "10.0.0.2:80",
                "no room here for: rtt",
            ],
        ),
    ],
)
def test_columns_are_stacked_and_left_out_as_room_is_scarce(width: int, lines: list[str]) -> None:
    assert drawn(width)[: len(lines)] == lines


ADVICE = "sudo sysctl -w net.core.busy_read=50 # and put it into /etc/sysctl.d"
FINDINGS = [
    Finding(subject="eth0", name="offloads", verdict="warn", value="gro and tso are on", advice=ADVICE),
    Finding(subject="eth0", name="mtu", verdict="ok", value="1500", advice=""),
]


@pytest.mark.parametrize("width", [80, 120, WHOLE])
def test_the_doctor_s_commands_are_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aiomos.console.terminal.width_of", lambda _: width)
    show_findings(FINDINGS)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    (line,) = (line for line in lines if ADVICE in line)
    assert line.startswith("    sudo" if width == 80 else "offloads  warn  gro and tso are on  sudo")


FLOW = {
    "client": "2001:db8:1:2:3:4:5:6",
    "client_port": 40000,
    "server": "2001:db8::2",
    "server_port": 443,
    "ip_version": 6,
    "start": 1.0,
    "end": 2.5,
    "midstream": True,
    "client_rtt": 0.0123,
    "client_state": "ESTABLISHED",
    "server_state": "CLOSE_WAIT",
    **{
        f"{side}_{name}": 12345
        for side in ("client", "server")
        for name in ("stream_bytes", "retransmits", "lost")
    },
}


@pytest.mark.parametrize("width", [80, 120, WHOLE])
def test_open_flows_keep_their_ends_whole(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("aiomos.console.terminal.width_of", lambda _: width)
    show_flows([FLOW], rows=5)
    shown = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= width
    for text in ("[2001:db8:1:2:3:4:5:6]:40000", "[2001:db8::2]:443", "12,345"):
        assert text in shown
    assert ("ESTABLISHED, CLOSE_WAIT, no SYN" in shown) or (
        "no room here for:" in shown and "states" in shown
    )
    assert ("12.3 ms" in shown) == (width > 80)


if __name__ == "__main__":
    import tempfile

    SHEETS.mkdir(exist_ok=True)
    for name, arguments in COMMANDS.items():
        (SHEETS / f"{name}.pipe").write_text(in_a_pipe(arguments))
        for width in WIDTHS:
            with tempfile.TemporaryDirectory() as folder:
                (SHEETS / f"{name}.{width}").write_text(on_terminal(Path(folder), width, arguments))
