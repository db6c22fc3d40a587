"""Say what is missing before a set-up fails half-way: ``python tools/check_python.py``."""

import importlib.util
import shutil
import sys
import sysconfig
from pathlib import Path

OLDEST = (3, 11)


def missing() -> list[str]:
    """List what is missing, each with its remedy."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.version_info < OLDEST:
        return [f"Python 3.11 or later, this is {version}: make PYTHON=/path/to/python3.11"]
    found = []
    if importlib.util.find_spec("ensurepip") is None:
        found.append(f"Python's venv module: apt-get install python{version}-venv")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        found.append(f"Python's headers: apt-get install python{version}-dev")
    if shutil.which("gcc") is None:
        found.append("a C compiler: apt-get install gcc libc6-dev")
    return found


if __name__ == "__main__":
    sys.exit("".join(f"missing: {line}\n" for line in missing()) or None)
