"""The timing wheel against a naive list of deadlines: expiry within its 1 s step, whatever the clock does."""

import random
from collections.abc import Callable

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings, Timeouts
from aiomos.testing.packets import tcp_frame
from aiomos.testing.scenario import Frame, Watcher

SECOND = 1_000_000_000
WAITS = {"half_open": 7, "established": 40, "closing": 15, "reset": 3}
SERVER_ISN = 0xFFFFFFF0
STAGES = ["half_open", "half_open", "established", "established", "closing", "reset"]


def stage_frame(port: int, stage: int) -> bytes:
    """What takes flow *port* to a stage: SYN, SYN-ACK, ACK, data again and again, FIN, RST."""
    if stage == 1:
        return tcp_frame("10.0.0.2", "10.0.0.1", 80, port, seq=SERVER_ISN, ack=1, flags="SA")
    flags = ["S", "", "A", "A", "FA", "R"][stage]
    seq = 0 if stage == 0 else 1
    return tcp_frame(
        "10.0.0.1", "10.0.0.2", port, 80, seq=seq, ack=SERVER_ISN + 1 if stage else 0, flags=flags
    )


def tick(time_ns: int) -> Frame:
    """A frame of another protocol, which only tells the time."""
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    return (time_ns, arp, 1, len(arp))


class Model:
    """Stage and last packet of each flow, and the second in which that was fed, in dicts."""

    def __init__(self, waits: dict[str, float]) -> None:
        self.waits = {name: round(seconds * SECOND) for name, seconds in waits.items()}
        self.flows: dict[int, tuple[int, int]] = {}
        self.fed: dict[int, int] = {}
        self.now = 0

    def deadline(self, port: int) -> int:
        stage, last = self.flows[port]
        return last + self.waits[STAGES[stage]]

    def advance(self, time_ns: int) -> tuple[set[int], set[int]]:
        """Flows that must have ended by now, and those that may have: due within this second."""
        self.now = max(self.now, time_ns)
        second = self.now // SECOND
        due = {port for port in self.flows if self.deadline(port) <= self.now}
        overdue = {port for port in due if -(-self.deadline(port) // SECOND) <= second > self.fed[port]}
        return overdue, due

    def segment(self, port: int, stage: int, time_ns: int) -> None:
        _, last = self.flows.get(port, (0, time_ns))
        self.flows[port] = (stage, max(last, time_ns))
        self.fed[port] = self.now // SECOND


def play(
    seed: int, draw_step: Callable[[random.Random], int], waits: dict[str, float], count: int = 3000
) -> None:
    """Feed random segments at random times and compare who has ended after each."""
    draw = random.Random(seed)
    model = Model(waits)
    watcher = Watcher(level=Level.STATE, settings=Settings(timeouts=Timeouts(**waits)))
    time_ns = 1_700_000_000 * SECOND + draw.randrange(SECOND)
    frames = {(port, stage): stage_frame(port, stage) for port in range(1, 60) for stage in range(6)}
    for _ in range(count):
        time_ns += draw_step(draw)
        watcher.feed([tick(time_ns)])
        overdue, due = model.advance(time_ns)
        ended = {record["client_port"] for record in watcher.records}
        watcher.records.clear()
        assert overdue <= ended <= due, f"seed {seed}, at {time_ns} ns"
        for port in ended:
            del model.flows[port]
        port = draw.randrange(1, 60)
        stage = model.flows[port][0] if port in model.flows else -1
        stage = (
            min(stage + (draw.random() < 0.5 or stage == -1), 5) if stage != 3 else draw.choice([3, 3, 4, 5])
        )
        data = frames[port, stage]
        watcher.feed([(time_ns, data, 1, len(data))])
        model.segment(port, stage, time_ns)
    assert watcher.engine.statistics()["open"] == len(model.flows)
    watcher.finish()


def milliseconds(draw: random.Random) -> int:
    return draw.randrange(300_000_000)


def seconds(draw: random.Random) -> int:
    return draw.randrange(5 * SECOND)


def jumps(draw: random.Random) -> int:
    return draw.choice(
        [0, 1, SECOND - 1, SECOND, 20 * SECOND, 3600 * SECOND, 9000 * SECOND, 3 * 86_400 * SECOND]
    )


def backwards(draw: random.Random) -> int:
    return draw.randrange(-2 * SECOND, 3 * SECOND)


@pytest.mark.parametrize("draw_step", [milliseconds, seconds, jumps, backwards])
@pytest.mark.parametrize("seed", range(3))
def test_wheel_against_the_model(draw_step: Callable[[random.Random], int], seed: int) -> None:
    """Each flow ends within the second after its deadline, no sooner and no later."""
    play(seed, draw_step, dict(WAITS))


@pytest.mark.parametrize("seed", range(3))
def test_wheel_with_time_outs_beyond_its_round(seed: int) -> None:
    """8,192 seconds is once round; flows farther ahead are looked at again each round."""
    waits = {"half_open": 5000, "established": 30_000, "closing": 9000.5, "reset": 8192}
    play(seed, lambda draw: draw.randrange(2000 * SECOND), waits)


@pytest.mark.parametrize("seed", range(3))
def test_wheel_with_fractions_of_a_second(seed: int) -> None:
    """A deadline within a second is met at the next step."""
    play(seed, milliseconds, {"half_open": 0.25, "established": 1.75, "closing": 0.999, "reset": 0.001})


@pytest.mark.parametrize("jump", [31, 100, 8191, 8192, 8193, 100_000])
def test_first_jump_of_a_clock_that_starts_at_zero(jump: int) -> None:
    """Simulated captures begin at 0; the wheel must have started by then."""
    watcher = Watcher(settings=Settings(timeouts=Timeouts(half_open=30)))
    data, later = stage_frame(1, 0), stage_frame(2, 0)
    watcher.feed([(0, data, 1, len(data)), (jump * SECOND, later, 1, len(later))])
    assert [record["client_port"] for record in watcher.records] == [1]
    watcher.finish()


def test_many_flows_due_in_one_second() -> None:
    """A whole slot is emptied in one step."""
    watcher = Watcher(level=Level.STATE, settings=Settings(timeouts=Timeouts(half_open=30)))
    frames = [(SECOND, stage_frame(port, 0), 1, 60) for port in range(1, 20_000)]
    watcher.feed(frames)
    late = stage_frame(30_000, 0)
    watcher.feed([(32 * SECOND, late, 1, 60)])
    assert len(watcher.records) == 19_999
    assert {record["reason"] for record in watcher.records} == {"timeout"}
    watcher.finish()


@pytest.mark.parametrize("rounds", [1, 2, 12])
@pytest.mark.parametrize("offset", range(-3, 4))
def test_a_pause_longer_than_the_wheel_visits_every_slot(offset: int, rounds: int) -> None:
    """Whichever of its slots the flow that is due lies in."""
    watcher = Watcher(level=Level.STATE, settings=Settings(timeouts=Timeouts(half_open=30)))
    frame = stage_frame(1, 0)
    due = 1_700_000_030
    watcher.feed([((due - 30) * SECOND, frame, 1, len(frame)), tick((due + 8192 * rounds + offset) * SECOND)])
    assert [record["client_port"] for record in watcher.records] == [1]
    watcher.finish()
