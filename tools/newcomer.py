"""Do what README and tutorial say, as somebody does who has nothing yet: ``python tools/newcomer.py``.

The commands are read from the pages and typed, one after the other, into a shell in a fresh clone: they set it up, and
what they print is compared with what the pages say. Left out are those that need ``sudo`` and a network.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/tutorial/index.md")
BLOCK = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "=== newcomer ==="
SECONDS = 1800
OWN = ("PYTHONPATH", "PYTEST_ADDOPTS", "VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
"""What a newcomer's shell does not have set."""

Step = tuple[str, str | None]
"""A command, and what it is said to print; None where the page says nothing of that."""


def steps(page: str) -> Iterator[Step]:
    """Read the commands of a page, in order."""
    for language, body in BLOCK.findall(page):
        if language == "sh":
            yield from ((line, None) for line in body.splitlines() if line)
            continue
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output or None


def typed(listed: list[Step], folder: Path) -> Iterator[tuple[int, str]]:
    """Type commands into one shell; yield the status and the output of each."""
    script = "".join(f"{{ {command}\n}} 2>&1\nprintf '\\n%s %s\\n' '{MARK}' $?\n" for command, _ in listed)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    parts = re.split(rf"\n{MARK} (\d+)\n", done.stdout)
    yield from ((int(status), output) for output, status in zip(parts[::2], parts[1::2], strict=False))


def environment() -> dict[str, str]:
    """Give the environment of a shell in which nothing is activated; its width is that of the pages."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OWN and (not name.startswith("AIOMOS_") or name == "AIOMOS_C_CACHE")
    }
    activated = {ROOT / ".venv" / "bin"}  # make has put it there
    if sys.prefix != sys.base_prefix:
        activated.add(Path(sys.prefix, "bin"))
    path = kept["PATH"].split(os.pathsep)
    kept["PATH"] = os.pathsep.join(part for part in path if Path(part) not in activated)
    return {**kept, "COLUMNS": "100", "NO_COLOR": "1"}


def load_console() -> ModuleType:
    """Import docs/console.py, which knows what differs from run to run."""
    sys.path.insert(0, str(ROOT / "docs"))
    spec = importlib.util.spec_from_file_location("console", ROOT / "docs" / "console.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Follow both pages."""
    console = load_console()
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "aiomos"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        for page in PAGES:
            listed = [step for step in steps((clone / page).read_text()) if not needs_a_network(step)]
            answers = list(typed(listed, clone))
            if len(answers) != len(listed):
                sys.exit(f"{page}: the shell ended after {len(answers)} of {len(listed)} commands")
            for (command, said), (status, output) in zip(listed, answers, strict=True):
                steady = console.steady(output)
                if (status and said is None) or (said is not None and steady.rstrip() != said.rstrip()):
                    sys.exit(
                        f"{page}: {command}\nstatus {status}, and printed:\n{output}\ninstead of:\n{said}"
                    )
            if page == PAGES[0] and "aiomos: compiling" not in answers[0][1]:
                sys.exit(f"{page}: nothing says that it is being compiled\n{answers[0][1]}")
            print(f"{page}: {len(listed)} commands do what the page says", flush=True)


def needs_a_network(step: Step) -> bool:
    """Tell whether a command is for the interfaces of a machine."""
    return step[0].startswith("sudo ")


if __name__ == "__main__":
    main()
