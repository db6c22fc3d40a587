"""Try what is installed, with the interpreter that has it: ``python tools/try_install.py``.

Every module is imported; every subcommand, every app and every one of its options is used, and so are workers, metrics
and control. Where only the declared dependencies are installed, that is where an undeclared one is missing. No rights
are needed, and nothing of the project's folder but its captures.
"""

import asyncio
import importlib
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "tests" / "data"
HTTP = str(DATA / "http.pcap")
SECONDS = 120

NEEDED: dict[str, tuple[str, ...]] = {
    "abacus": ("subscribers=192.0.2.0/24",),
    "dump": ("directory=streams",),
}
"""Options without which an app does not run."""
IN_LINE = {"firewall": ("rules=rules.toml",), "nat": ("config=nat.toml",)}
"""Apps that are of no use over captures, and say so."""
SHOWING = ("apps", "flows", "stats")
"""Subcommands of ctl that show something."""
NOTHING = ("", "required", "none")
"""Defaults that are no values."""
FILES = {
    "rules.toml": "",
    "nat.toml": 'outside = "eth1"\ninside = "10.0.0.0/8"\nexternal = "192.0.2.10"\n',
}


def aiomos(*arguments: str, status: int = 0, said: str = "") -> str:
    """Run the command line; end with what it printed unless it ends as it should."""
    command = [sys.executable, "-m", "aiomos", *arguments]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != status or said not in done.stdout or "Traceback" in done.stdout:
        sys.exit(f"failed with status {done.returncode}: {' '.join(command)}\n{done.stdout}")
    return done.stdout


def import_all() -> int:
    """Import every module."""
    import aiomos as package

    names = [module.name for module in pkgutil.walk_packages(package.__path__, "aiomos.")]
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    return len(names)


def commands(group: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the subcommands that do something, each as the words that choose it."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


def try_apps() -> set[tuple[str, ...]]:
    """List and run every app, with each of its options given its own default."""
    from aiomos.loader import shipped_apps
    from aiomos.options import describe

    for app in shipped_apps():
        name = app.module.removeprefix("aiomos.apps.")
        options = describe(app.options_type) if app.options_type else []
        shown = aiomos("apps", name)
        if missing := [option.name for option in options if option.name not in shown]:
            sys.exit(f"aiomos apps {name} does not show {missing}")
        aiomos("apps", "--explain", name)
        if name in IN_LINE:
            aiomos("run", name, "--pcap", HTTP, *chosen(IN_LINE[name]), status=1, said="error: ")
            continue
        given = chosen(NEEDED.get(name, ()))
        workers = () if app.one_worker else (("--workers", "2"),)
        for more in ((), ("--loop", "asyncio", "--log-format", "json", "-v"), *workers):
            aiomos("run", name, "--pcap", HTTP, *given, *more)
        # The text of a default is what --set takes, but for those that stand for nothing.
        named = [option.partition("=")[0] for option in NEEDED.get(name, ())]
        defaults = [
            f"{option.name}={option.default}"
            for option in options
            if option.name not in named and option.default not in NOTHING
        ]
        aiomos("run", name, "--pcap", HTTP, *given, *chosen(defaults))
    return {("apps",), ("run",)}


def chosen(options: Sequence[str]) -> list[str]:
    """Give options as arguments."""
    return [argument for option in options for argument in ("--set", option)]


def try_control() -> set[tuple[str, ...]]:
    """Control a run on a wire on which nothing comes; it answers Prometheus, too."""
    from aiomos import App, Runtime, Transport, serve
    from aiomos.transport.interfaces import Interface

    class Silent(Transport):
        def __init__(self) -> None:
            self.ends = socket.socketpair()
            self.interfaces.append(Interface("", "silent0", 1, 0))

        def fileno(self) -> int:
            return self.ends[0].fileno()

        def receive(self) -> list[tuple[int, bytes, int]]:
            return []

    def ask(runtime: Runtime) -> None:
        for command in (
            ("apps",),
            ("attach", "rexmit", "--set", "path=rexmit.txt"),
            ("flows",),
            ("stats",),
            ("detach", "rexmit"),
        ):
            aiomos("ctl", "socket", *command)
            if command[0] in SHOWING:
                aiomos("ctl", "socket", *command, "--json")
        runtime.stop()

    async def main() -> None:
        asked: list[asyncio.Future[None]] = []

        def started(runtime: Runtime) -> None:
            asked.append(asyncio.get_running_loop().run_in_executor(None, ask, runtime))

        await serve(App("idle"), transport=Silent(), control="socket", metrics="127.0.0.1:0", started=started)
        await asked[0]

    asyncio.run(main())
    return {("ctl", name) for name in (*SHOWING, "attach", "detach")}


def try_doctor() -> set[tuple[str, ...]]:
    """Look at this machine, fit or not."""
    for more in ((), ("--json",)):
        done = subprocess.run(
            [sys.executable, "-m", "aiomos", "doctor", *more], capture_output=True, text=True, check=False
        )
        if done.returncode not in (0, 1) or "CAP_NET_RAW" not in done.stdout:
            sys.exit(f"aiomos doctor: status {done.returncode}\n{done.stdout}{done.stderr}")
    return {("doctor",)}


def main() -> None:
    """Try everything in a folder of its own."""
    modules = import_all()
    from aiomos.cli import main as program

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in FILES.items():
            Path(name).write_text(text)
        there = set(commands(program))
        for command in there:
            path = ("ctl", "socket", *command[1:]) if command[0] == "ctl" else command
            aiomos(*path, "--help", said="Usage:")
        if untried := there - (try_apps() | try_control() | try_doctor()):
            sys.exit(f"write a trial of {untried}")
        os.chdir("/")
    print(
        f"{modules} modules, {len(there)} subcommands, and every app with its options: Python {sys.version.split()[0]}"
    )


if __name__ == "__main__":
    main()
