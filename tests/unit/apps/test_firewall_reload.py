"""Taking a rule file in does not hold up packets: it is read aside, and connections are judged again in slices."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from aiomos.apps import firewall
from aiomos.apps._tables import aside
from aiomos.apps.firewall import Firewall, Options, Question
from aiomos.apps.firewall.rules import Policy, _read_rules, read_policy
from tests.traffic import in_loop

ACCEPTS = 'recheck = true\n[[rule]]\naction = "accept"\n'
DROPS = 'recheck = true\n[[rule]]\naction = "drop"\nport = 80\n[[rule]]\naction = "accept"\n'


class Accepted:
    """What stands for a connection."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    @property
    def dropped(self) -> bool:
        return self.ended == ["dropped"]

    def drop(self) -> None:
        """Note that it is ended."""
        self.ended.append("dropped")

    def reset(self) -> None:
        """Note that it is ended, and its ends told."""
        self.ended.append("reset")


def question(dport: int = 80, proto: int = 6) -> Question:
    return Question(
        "eth0", "eth1", proto, ip_address("10.0.0.1"), ip_address("192.0.2.2"), 5000, dport, None, 0.0
    )


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(ACCEPTS)
    return path


@pytest.fixture
def wall(rules: Path) -> Iterator[Firewall]:
    wall = Firewall(Options(rules=rules, watch=0), read_policy(rules))
    yield wall
    wall.close()


def accept(wall: Firewall, dport: int) -> Accepted:
    """Have a connection that the rules accept."""
    accepted: Any = Accepted()
    wall._accept(wall._policy.judge(question(dport), "new").rule, accepted, question(dport), "new")
    return accepted  # type: ignore[no-any-return]


def test_the_file_is_read_while_the_loop_goes_on(
    wall: Firewall, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, went_on = threading.Event(), threading.Event()
    old = wall._policy
    wall._policy.judge(question(), "new")
    read: list[Policy] = []

    def slowly(path: Path) -> Policy:
        begun.set()
        assert went_on.wait(10)
        read.append(read_policy(path))
        return read[0]

    monkeypatch.setattr(firewall, "read_policy", slowly)

    async def main() -> None:
        reloading = asyncio.ensure_future(wall.reload())
        while not begun.is_set():
            await asyncio.sleep(0)
        assert wall._policy is old
        went_on.set()
        await reloading

    rules.write_text(DROPS)
    in_loop(main(), "asyncio")
    assert [wall._policy] == read
    assert wall._policy.kinds == old.kinds != ()  # what the first packet of each kind would wait for


def test_what_was_read_is_not_looked_at_for_garbage_when_it_is_there() -> None:
    kept: list[list[object]] = []

    def read() -> None:
        kept.extend([] for _ in range(50_000))

    async def main() -> None:
        gc.collect()
        await aside(read)
        assert len(gc.get_objects(generation=0)) + len(gc.get_objects(generation=1)) < 5000

    assert gc.isenabled()
    in_loop(main(), "asyncio")
    assert len(kept) == 50_000
    assert gc.isenabled()


def test_what_a_file_says_is_freed_rule_by_rule(rules: Path) -> None:
    tables = [{"action": "accept", "name": f"number {number}"} for number in range(3)]
    reading = _read_rules(tables, {}, rules)
    assert [(rule.name, len(tables)) for rule in reading] == [
        ("number 0", 2),
        ("number 1", 1),
        ("number 2", 0),
    ]


def test_connections_are_judged_again_in_slices(
    wall: Firewall, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firewall, "SLICE_SECONDS", 0)
    connections = [accept(wall, 80 + number % 2) for number in range(50)]
    ended: list[int] = []

    async def main() -> None:
        reloading = asyncio.ensure_future(wall.reload())
        while not reloading.done():
            ended.append(sum(connection.dropped for connection in connections))
            if ended[-1] == 10 and len(wall._accepted) == 40:
                gone: Any = connections[40]  # which was to be ended; it has, of its own
                wall._settle(gone, "rule 1", 1, 0)
            await asyncio.sleep(0)

    rules.write_text(DROPS)
    in_loop(main(), "asyncio")
    assert [connection.dropped for connection in connections] == [
        number % 2 == 0 and number != 40 for number in range(50)
    ]
    assert {after - before for before, after in itertools.pairwise(ended)} == {0, 1}
    assert len(wall._accepted) == 25


def reloaded(wall: Firewall, rules: Path, text: str) -> dict[str, Any]:
    """Have rules taken in; returns what is logged of it."""
    rules.write_text(text)
    with capture_logs() as log:
        in_loop(wall.reload(), "asyncio")
    (told,) = log
    return {name: told.get(name) for name in ("event", "rules", "ended")}


def test_what_a_reload_has_ended_is_not_ended_again(wall: Firewall, rules: Path) -> None:
    connections = [accept(wall, port) for port in (80, 81, 443, 82)]
    assert reloaded(wall, rules, DROPS) == {"event": "rules_reloaded", "rules": 2, "ended": 1}
    assert reloaded(wall, rules, DROPS) == {"event": "rules_reloaded", "rules": 2, "ended": 0}
    both = DROPS.replace("port = 80\n", 'port = 80\n[[rule]]\naction = "reject"\nport = [81, 443]\n')
    assert reloaded(wall, rules, both)["ended"] == 2
    assert reloaded(wall, rules, both)["ended"] == 0
    assert [connection.ended for connection in connections] == [["dropped"], ["reset"], ["reset"], []]
    assert reloaded(wall, rules, ACCEPTS)["ended"] == 0  # what has ended stays so
    assert len(wall._accepted) == 1


def test_rules_without_recheck_leave_what_was_accepted(wall: Firewall, rules: Path) -> None:
    """But rules that come after them may have it, as long as it was noted."""
    first = accept(wall, 80)
    assert reloaded(wall, rules, DROPS.replace("recheck = true\n", ""))["ended"] == 0
    second = accept(wall, 81)
    assert reloaded(wall, rules, DROPS.replace("port = 80", "port = [80, 81]"))["ended"] == 1
    assert (first.ended, second.ended) == (["dropped"], [])


@pytest.mark.parametrize("watch", [0, 3600])
def test_what_is_asked_for_while_it_reloads_comes_after_it(
    rules: Path, monkeypatch: pytest.MonkeyPatch, watch: float
) -> None:
    wall = Firewall(Options(rules=rules, watch=watch), read_policy(rules))
    reloads: list[asyncio.Event] = []

    async def main() -> None:
        async def reload() -> None:
            done = asyncio.Event()
            reloads.append(done)
            await done.wait()

        monkeypatch.setattr(wall, "reload", reload)
        watching = asyncio.ensure_future(wall.watch())

        async def until(count: int) -> None:
            while len(reloads) < count:
                await asyncio.sleep(0)

        wall.ask_reload()
        await until(1)
        wall.ask_reload()
        wall.ask_reload()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(reloads) == 1
        reloads[0].set()
        await until(2)
        reloads[1].set()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(reloads) == 2
        watching.cancel()

    in_loop(main(), "asyncio")
    wall.close()


def test_protocols_that_no_rule_names_are_of_one_kind(rules: Path) -> None:
    """Senders choose among them, and each kind has a list of rules."""
    rules.write_text('[[rule]]\naction = "accept"\nproto = ["tcp", 99]\n[[rule]]\naction = "drop"\n')
    policy = read_policy(rules)
    decided = [policy.judge(question(proto=proto), "new").rule.name for proto in range(256)]
    assert [proto for proto, name in enumerate(decided) if name == "rule 1"] == [6, 99]
    assert len(policy.kinds) == 3


def test_a_wrong_file_leaves_the_rules(wall: Firewall, rules: Path) -> None:
    old = wall._policy
    rules.write_text("[[rule]]\n")
    in_loop(wall.reload(), "asyncio")
    assert wall._policy is old
