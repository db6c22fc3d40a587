"""Views of flows that are made while the collector finalises the engine: they keep what they read from."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PROGRAM = """
import gc
from aiomos.testing.batches import feed_frames
from aiomos import CONN_START, Filter, Hook, Level, Settings
from aiomos.engine.engine import Engine
from aiomos.testing.scenario import Conversation

views, told = [], []

class Holder:
    def __del__(self):
        feed_frames(self.engine, Conversation().handshake().client("PA", b"hello").frames)

def started(flow):
    views.append(flow)
    flow.timer(1.0, lambda flow: None)
    told.append("timer")

def make():
    holder = Holder()
    holder.engine = Engine(Settings(), bytes(16), lambda function, flow, error: told.append(repr(error)))
    holder.engine.face = holder
    rule = holder.engine.add_rule(Filter("").program, Level.BYTES)
    holder.engine.add_call(rule, CONN_START, Hook.RECEIVER, started, ("flow",))

make()
gc.collect()
gc.collect()
print(told, [(flow.client.packets, flow.client.bytes, flow.key[1]) for flow in views])
"""


def test_a_view_outlives_its_engine() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['timer'] [(3, 5, 40000)]\n"
