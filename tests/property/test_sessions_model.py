"""The session table finds what a dictionary finds, whatever comes and ends in between."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomos.testing.packets import ethernet, ipv4, tcp, udp

probe = pytest.importorskip("tests.native._probe_sessions", reason="needs the native test probes")

TCP, UDP = 6, 17
Tuple = tuple[str, int, str, int, int]


@dataclass
class Session:
    """One session as the model knows it."""

    index: int
    arrives: tuple[Tuple, Tuple]
    last: float
    idle: float
    packets: list[int]
    bytes: list[int]
    share: int
    acked: set[int] = field(default_factory=set)

    @property
    def half_open(self) -> bool:
        """TCP until both ends have acknowledged, anything else until it is answered."""
        return len(self.acked) < 2 if self.arrives[0][4] == TCP else not self.packets[1]


def reverse(t: Tuple) -> Tuple:
    return (t[2], t[3], t[0], t[1], t[4])


def frame(t: Tuple, payload: bytes) -> bytes:
    ports = {"src": t[0], "dst": t[2], "sport": t[1], "dport": t[3]}
    body = udp(payload, **ports) if t[4] == UDP else tcp(payload, flags="A", **ports)
    return ethernet(ipv4(body, src=t[0], dst=t[2], proto=t[4]))


class Model:
    """A table and a dictionary side by side, over few addresses so that much collides."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.table = probe.Table(700)
        self.by_tuple: dict[Tuple, tuple[Session, int]] = {}
        self.sessions: dict[int, Session] = {}
        self.now = 1000.0
        self.given_back: list[tuple[object, ...]] = []

    def draw(self) -> Tuple:
        rng = self.rng
        hosts = [f"10.0.0.{i}" for i in range(1, 5)]
        return (
            rng.choice(hosts),
            rng.randrange(40),
            rng.choice(hosts),
            rng.randrange(40),
            rng.choice([TCP, UDP]),
        )

    def insert(self) -> None:
        arrives, leaves = self.draw(), self.draw()
        leaves = arrives if self.rng.random() < 0.3 else (*leaves[:4], arrives[4])
        idle = self.rng.choice([5, 60, 3000])
        share = self.rng.choice([0, 0, 1, 15])
        result, index = self.table.insert(arrives, leaves, self.now, idle, share=share)
        replies = reverse(leaves)
        if arrives == replies:
            assert result == "bad"
        elif arrives in self.by_tuple:
            assert result == "exists"
        elif replies in self.by_tuple:
            assert result == "conflict"
        elif len(self.sessions) + len(self.given_back) == 700:  # what has ended is still to be told
            assert result == "budget"
        else:
            assert result == "made"
            session = Session(index, (arrives, replies), self.now, idle, [0, 0], [0, 0], share)
            self.sessions[index] = session
            self.by_tuple[arrives], self.by_tuple[replies] = (session, 0), (session, 1)

    def packet(self) -> None:
        known = list(self.by_tuple)
        t = self.rng.choice(known) if known and self.rng.random() < 0.7 else self.draw()
        payload = self.rng.randbytes(self.rng.randrange(9))
        data = frame(t, payload)
        found = self.table.packet(data, self.now)
        if t not in self.by_tuple:
            assert found is None
            return
        session, direction = self.by_tuple[t]
        session.last = self.now
        session.packets[direction] += 1
        session.acked.add(direction)
        session.bytes[direction] += len(data) - 14
        assert found == (
            session.index,
            direction,
            False,
            frame(reverse(session.arrives[1 - direction]), payload),
        )

    def forget(self, session: Session) -> None:
        del self.sessions[session.index]
        for t in session.arrives:
            del self.by_tuple[t]

    def end(self) -> None:
        if self.sessions:
            session = self.rng.choice(list(self.sessions.values()))
            self.forget(session)
            self.table.end(session.index)
            self.table.end(session.index)
            self.given_back.append(self.report(session, timed_out=False))

    def report(self, session: Session, *, timed_out: bool) -> tuple[object, ...]:
        return (session.index, tuple(session.packets), tuple(session.bytes), session.last, timed_out)

    def pass_time(self) -> None:
        self.now += self.rng.choice([0.25, 1, 1, 7, 900, 1024, 5000])
        due = [session for session in self.sessions.values() if session.last + session.idle <= self.now // 1]
        for session in due:
            self.forget(session)
            self.given_back.append(self.report(session, timed_out=True))
        assert sorted(self.table.expire(self.now)) == sorted(self.given_back)
        self.given_back = []
        assert self.table.in_use == (len(self.sessions), len(self.sessions))

    def check_shares(self) -> None:
        """Those half open come in the order in which they were made, which is that of the dictionary."""
        oldest, shares = self.table.oldest
        expected: dict[int, tuple[int, int]] = {}
        for session in self.sessions.values():
            count, first = expected.get(session.share, (0, 0))
            expected[session.share] = count + 1, first or (session.index if session.half_open else 0)
        assert shares == expected
        assert (oldest == 0) == (not any(first for _, first in expected.values()))

    def run(self, steps: int) -> None:
        moves = [self.insert] * 10 + [self.packet] * 10 + [self.end] * 2 + [self.pass_time]
        for _ in range(steps):
            self.rng.choice(moves)()
            self.check_shares()
        self.now += 10_000
        self.pass_time()
        assert self.table.in_use == (0, 0)


@given(seed=st.integers(0, 2**64), steps=st.integers(0, 400))
def test_the_table_finds_what_a_dictionary_finds(seed: int, steps: int) -> None:
    Model(seed).run(steps)


def test_a_full_table_finds_what_a_dictionary_finds() -> None:
    model = Model(1)
    for _ in range(3000):
        model.insert()
    assert len(model.sessions) == 700
    model.run(2000)
