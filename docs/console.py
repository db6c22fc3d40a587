"""Console sessions of the pages: what is typed, and what it really prints.

A session is a file in docs/examples/sessions: lines that begin with ``$ `` are commands, what follows is
their output. Pages have it as a block, and the tests run it again. After a change of what a command prints::

    python docs/console.py            # writes every session anew, and the pages that have it

Commands run in a folder of their own in which ``docs`` and ``tests`` are those of the project. Times of day
and durations differ from run to run, so they are written as zeros.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import snippets

ROOT = Path(__file__).resolve().parents[1]
SESSIONS = ROOT / "docs" / "examples" / "sessions"
PROMPT = "$ "
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "0000-00-00T00:00:00.000000Z"),
    (re.compile(r"\bin \d+\.\d\d ?s\b"), "in 0.00 s"),
)
COMMANDS = f"""
aiomos() {{ "{sys.executable}" -m aiomos "$@"; }}
python() {{ "{sys.executable}" "$@"; }}
"""


def commands(session: str) -> list[str]:
    """The commands of a session, in order."""
    return [line.removeprefix(PROMPT) for line in session.splitlines() if line.startswith(PROMPT)]


def play(session: str) -> str:
    """Run the commands of a session and write down what they print."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("docs", "tests"):
            Path(folder, name).symlink_to(ROOT / name)
        return "".join(f"{PROMPT}{command}\n{output}" for command, output in _run(commands(session), folder))


def _run(listed: list[str], folder: str) -> Iterator[tuple[str, str]]:
    environment = {
        **os.environ,
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider -p no:asyncio",
    }
    for command in listed:
        done = subprocess.run(
            ["bash", "-c", COMMANDS + command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            text=True,
            check=False,
        )
        output = done.stdout
        for pattern, steady in CHANGING:
            output = pattern.sub(steady, output)
        yield command, "".join(f"{line.rstrip()}\n" for line in output.splitlines())


if __name__ == "__main__":
    for path in sorted(SESSIONS.glob("*.console")):
        path.write_text(play(path.read_text()))
    snippets.write()
