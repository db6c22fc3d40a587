"""Show the monitor what the kernel was shown, and compare their conclusions."""

from __future__ import annotations

from collections.abc import Sequence

from aiomos.levels import Level
from aiomos.settings import Budgets, Settings
from aiomos.testing.scenario import Watcher, watch
from tests.receiver.trials import Answer, Sent, frames_of

KERNEL_ISN, PEER_ISN = 0xFFFFFFF8, 0xFFFFFFFD
"""So that what the trials send crosses the wrap."""
SMALL = Settings(budgets=Budgets(flows=16, half_open=16))


def differences(answer: Answer, setup: Sequence[Sent]) -> list[str]:
    """Return how the monitor's conclusions differ from the kernel's: in the bytes that it read, its state, a reset."""
    by_kernel = setup[0].by_kernel
    frames = frames_of([*setup, *answer.sent], kernel_isn=KERNEL_ISN, peer_isn=PEER_ISN)
    watcher = Watcher(settings=SMALL)
    watcher.feed(frames, batch=1)
    flow = watcher.flow
    assert flow is not None
    state = (flow.client if by_kernel else flow.server).state.name
    reset = flow.reason == "rst"
    frames += frames_of(answer.tail, kernel_isn=KERNEL_ISN, peer_isn=PEER_ISN)
    seen = watch(frames, level=Level.STREAM, overlap="linux", settings=SMALL)
    read = ""
    if seen.streams:  # there are none of a flow that came to nothing
        half = seen.streams[0][1 if by_kernel else 0]
        # What is held behind a hole is delivered when frames run out; no receiver reads it.
        read = half.data[: half.gaps[0][0] if half.gaps else None].decode()
    found = []
    if read != answer.read:
        found.append(f"read {read!r}, the kernel {answer.read!r}")
    over = {state, answer.after} == {"TIME_WAIT", "CLOSED"}  # either way
    if state != answer.after and not over:
        found.append(f"state {state}, the kernel {answer.after}")
    if reset != was_reset(answer) and not over:
        found.append(f"{'a' if reset else 'no'} reset, the kernel {answer.error or 'none'}")
    return found


def was_reset(answer: Answer) -> bool:
    """Did the segment, or the kernel's answer, reset the connection?"""
    if answer.after != "CLOSED":
        return False
    return bool(answer.error) or any("R" in one.flags for one in answer.sent)
