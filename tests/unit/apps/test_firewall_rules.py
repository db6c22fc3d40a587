"""Rule files of the firewall: what they may say, and what errors tell; limits and states."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from aiomos import OptionError
from aiomos.apps.firewall.limits import SourceBuckets, TokenBucket
from aiomos.apps.firewall.rules import Policy, Question, read_policy

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "firewall.toml"
ZONES = '[zone.inside]\ninterface = "eth0"\n[zone.outside]\ninterface = "eth1"\n'

Read = Callable[[str], Policy]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str) -> Policy:
        path = tmp_path / "rules.toml"
        path.write_text(text)
        return read_policy(path)

    return read


def syn(dport: int = 80, *, src: str = "10.0.0.1", time: float = 0.0, **more: Any) -> Question:
    return Question(
        "eth0", "eth1", 6, ip_address(src), ip_address("192.0.2.2"), 5000, dport, None, time
    )._replace(**more)


def decided(policy: Policy, question: Question, state: str = "new", **more: Any) -> tuple[str, str]:
    rule = policy.judge(question, state, **more).rule
    return rule.name, rule.action


def test_without_rules_all_is_dropped(read: Read) -> None:
    assert decided(read(""), syn()) == ("default", "drop")
    assert decided(read(""), syn(), "established") == ("invalid", "drop")
    assert decided(read('invalid = "accept"'), syn(), "invalid") == ("invalid", "accept")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rule = 7", ["rules.toml: rule = 7"]),
        ("[[rule]]", ["rule 1", "action", "missing"]),
        ('[[rule]]\naction = "acept"', ["rule 1", "action = 'acept'", "accept, drop, reject, log"]),
        (
            '[[rule]]\naction = "drop"\n[[rule]]\nname = "web"\nprot = "tcp"',
            ["rule 2 (web)", "'prot'", "'proto'"],
        ),
        ('[[rule]]\naction = "drop"\nport = 65536', ["rule 1", "port = 65536"]),
        ('[[rule]]\naction = "drop"\nport = "80-70"', ["rule 1", "port = '80-70'"]),
        ('[[rule]]\naction = "drop"\nport = true', ["rule 1", "port = True"]),
        ('[[rule]]\naction = "drop"\nport = []', ["rule 1", "port = []"]),
        ('[[rule]]\naction = "drop"\nsrc = "10.0.0.1/8"', ["rule 1", "src = '10.0.0.1/8'", "network"]),
        ('[[rule]]\naction = "drop"\nproto = "tpc"', ["rule 1", "proto = 'tpc'", "tcp"]),
        ('[[rule]]\naction = "drop"\nproto = 256', ["rule 1", "proto = 256"]),
        ('[[rule]]\naction = "drop"\nicmp = "pong"', ["rule 1", "icmp = 'pong'", "echo-reply"]),
        ('[[rule]]\naction = "drop"\nicmp = 256', ["rule 1", "icmp = 256"]),
        ('[[rule]]\naction = "drop"\nstate = "old"', ["rule 1", "state = 'old'", "established"]),
        ('[[rule]]\naction = "drop"\nlimit = "10"', ["rule 1", "limit = '10'", "10/second"]),
        ('[[rule]]\naction = "drop"\nlimit = "0/second"', ["rule 1", "limit = '0/second'"]),
        ('[[rule]]\naction = "drop"\nburst = 0', ["rule 1", "burst = 0"]),
        ('[[rule]]\naction = "drop"\nfrom = "inside"', ["rule 1", "from = 'inside'", "zone"]),
        (ZONES + '[[rule]]\naction = "drop"\nto = "insid"', ["rule 1", "to = 'insid'", "'inside'"]),
        (ZONES + '[[default]]\naction = "drop"\nto = "insid"', ["default 1", "to = 'insid'", "'inside'"]),
        ('[[rule]]\naction = "drop"\nname = ""', ["rule 1", "name = ''"]),
        ('[[default]]\naction = "log"', ["default 1", "action = 'log'"]),
        ('[[default]]\naction = "drop"\nport = 80', ["default 1", "'port'"]),
        ("[zone.inside]", ["zone inside", "interface"]),
        ("zone.inside = 7", ["zone inside", "table"]),
        ('[zone.inside]\nnetworks = "10.0.0.0/33"', ["zone inside", "networks = '10.0.0.0/33'"]),
        ("midstream = -1", ["midstream = -1"]),
        ("udp_idle = 0", ["udp_idle = 0"]),
        ('recheck = "yes"', ["recheck = 'yes'"]),
        ("nothing = 1", ["'nothing'", "rule"]),
        ("[[rule]", ["rules.toml", "line 1"]),
        ('[[rule]]\nname = "a"\naction = "drop"\n[[rule]]\nname = "a"\naction = "drop"', ["rule 2", "'a'"]),
    ],
)
def test_error_names_the_rule_and_the_key(read: Read, text: str, told: list[str]) -> None:
    with pytest.raises(OptionError) as error:
        read(text)
    assert all(words in str(error.value) for words in told), error.value


def test_first_match_wins_and_log_goes_on(read: Read) -> None:
    policy = read(
        '[[rule]]\naction = "log"\n[[rule]]\nport = 22\naction = "reject"\n[[rule]]\naction = "accept"'
    )
    verdict = policy.judge(syn(22), "new")
    assert verdict.rule.name == "rule 2"
    assert [note.name for note in verdict.notes] == ["rule 1"]
    assert decided(policy, syn(80)) == ("rule 3", "accept")


def test_example_of_the_docs() -> None:
    policy = read_policy(EXAMPLE)
    web = syn(443, enters="eth1", leaves="eth0", src=ip_address("203.0.113.1"), dst=ip_address("192.0.2.80"))
    assert decided(policy, web) == ("web", "accept")
    assert decided(policy, web._replace(src=ip_address("192.0.2.9"))) == ("spoofed", "drop")
    assert decided(policy, web._replace(dport=23)) == ("default 2", "drop")
    assert decided(policy, web._replace(dst=ip_address("192.0.2.1"))) == ("default 2", "drop")
    assert decided(policy, web._replace(dport=113)) == ("ident", "reject")
    assert decided(policy, syn(23)) == ("default 1", "accept")
    ssh = web._replace(dport=22, src=ip_address("198.51.100.1"))
    assert [decided(policy, ssh)[0] for _ in range(4)] == ["administration"] * 3 + ["default 2"]


# --- states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("midstream", "age", "name"),
    [("false", 0, "invalid"), ("true", 1e9, "rule 1"), ("60", 59, "rule 1"), ("60", 60, "invalid")],
)
def test_connections_older_than_the_firewall(read: Read, midstream: str, age: float, name: str) -> None:
    policy = read(f'midstream = {midstream}\n[[rule]]\naction = "accept"')
    assert decided(policy, syn(), "established", age=age)[0] == name


def test_rule_for_a_state_comes_before_what_midstream_says(read: Read) -> None:
    rule = '[[rule]]\nport = 80\nstate = ["established", "invalid"]\naction = "accept"'
    policy = read(rule)
    assert decided(policy, syn(), "established") == ("rule 1", "accept")
    assert decided(policy, syn(), "invalid") == ("rule 1", "accept")
    assert decided(policy, syn(), "new") == ("default", "drop")
    assert decided(policy, syn(22), "invalid") == ("invalid", "drop")


# --- limits -------------------------------------------------------------------------------------------


def test_limit_of_a_rule(read: Read) -> None:
    policy = read('[[rule]]\nlimit = "2/second"\nburst = 3\naction = "accept"')
    times = [0, 0, 0, 0, 0.4, 0.5, 0.9, 1.0, 1000, 1000, 1000, 1000]
    actions = [decided(policy, syn(time=100 + time))[1] == "accept" for time in times]
    assert actions == [True, True, True, False, False, True, False, True, True, True, True, False]


def test_limit_of_each_source(read: Read) -> None:
    policy = read('[[rule]]\nlimit = "1/hour"\nburst = 1\nlimit_by = "source"\naction = "accept"')
    sources = ["10.0.0.1", "10.0.0.2", "10.0.0.1", "2001:db8::1"]
    assert [decided(policy, syn(src=src))[1] for src in sources] == ["accept", "accept", "drop", "accept"]


def test_limit_does_not_count_when_judged_again(read: Read) -> None:
    policy = read('[[rule]]\nlimit = "1/hour"\nburst = 1\naction = "accept"')
    assert [decided(policy, syn(), limited=False)[1] for _ in range(3)] == ["accept"] * 3


def test_only_packets_that_all_else_matches_use_a_limit_up(read: Read) -> None:
    policy = read('[[rule]]\nport = 80\ndst = "192.0.2.2"\nlimit = "1/hour"\nburst = 1\naction = "accept"')
    assert decided(policy, syn(dst=ip_address("192.0.2.3")))[1] == "drop"
    assert decided(policy, syn())[1] == "accept"


def test_sources_remembered_are_bounded() -> None:
    buckets = SourceBuckets(1e-9, 1, most=2)
    first, second, third = (ip_address(f"10.0.0.{number}") for number in (1, 2, 3))
    assert [buckets.take(source, 0.0) for source in (first, second, first, third)] == [
        True,
        True,
        False,
        True,
    ]
    assert not buckets.take(first, 0.0)  # asked for last before the third came
    assert buckets.take(second, 0.0)


def test_bucket_of_a_clock_that_goes_back() -> None:
    bucket = TokenBucket(1, 1)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert not bucket.take(100.9)
    assert bucket.take(101.0)
