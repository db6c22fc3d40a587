"""The page's recipe for a run without root, tried by a user who is not root."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.network import COMMAND_SECONDS
from tests.live.programs import ROOT, program

NOBODY = 65534
RECIPE = re.compile(r"^```sh\n(install -m 700 .*?\n)(sudo setcap .*?\n)(.*?)\n```$", re.MULTILINE)

# In namespaces of its own: the interpreter, and what is installed beside it, are where another user may read them.
SCRIPT = """
set -e
ip link add eth0 type veth peer name eth1
ip link set eth0 up
mkdir {folder}/python
mount --bind {prefix} {folder}/python
mount -t tmpfs -o mode=755 tmpfs {home}
mkdir -p {prefix}
mount --bind {folder}/python {prefix}
as_user() {{ setpriv --reuid {user} --regid {user} --clear-groups bash -ec "$1"; }}
sudo() {{ "$@"; }}
cd {folder}
export HOME={folder} PYTHONPATH={paths} PYTHONDONTWRITEBYTECODE=1
as_user '{python} -m venv --without-pip .venv'
as_user '.venv/bin/python -m aiomos run flowlog --iface eth0' 2>refused || echo status $?
as_user {install!r}
{give}
as_user '(until grep -q ready log; do sleep 0.05; done; kill -INT $$) & exec {run} --log-format json 2>log'
"""


@pytest.mark.parametrize("workers", ["", " --workers 2"], ids=["alone", "workers"])
def test_a_copy_of_the_interpreter_that_has_the_right(workers: str) -> None:
    found = RECIPE.search((ROOT / "docs" / "howto" / "live.md").read_text())
    assert found is not None
    install, give, run = found.groups()
    folder = Path(f"/tmp/aiomos-rights-{os.getpid()}")
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)
    interpreter = Path(os.path.realpath(sys.executable))
    script = SCRIPT.format(
        folder=folder,
        prefix=interpreter.parent.parent,
        home=interpreter.parents[-2] if interpreter.parts[1] in ("root", "home") else "/mnt",
        user=NOBODY,
        python=interpreter,
        paths=":".join(
            str(path) for path in (ROOT, *sys.path) if "site-packages" in str(path) or path is ROOT
        ),
        install=install.strip(),
        give=give.strip(),
        run=run.strip() + workers,
    )
    try:
        ended = subprocess.run(
            [program("unshare"), "-m", "-n", "bash", "-c", script],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        said = {path.name: path.read_text() for path in folder.iterdir() if path.name in ("log", "refused")}
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)
    assert ended.returncode == 0, (ended, said)
    assert ended.stdout.startswith("status 1\n")
    assert "python-live" in said["refused"]
    assert "setcap cap_net_raw" in said["refused"]
    assert said["log"].count('"event": "ready"') == (2 if workers else 1)
