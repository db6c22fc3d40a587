"""The firewall's rules decide as a plain reading of the file does, whatever the file and the packet."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiomos.apps.firewall.rules import ACCEPT, Policy, Question, read_policy
from tests.models.verdict_of_rules import decide

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.1.1", "192.0.2.7", "2001:db8::1", "2001:db8:1::1", "fe80::1")
NETWORKS = (
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.2",
    "0.0.0.0/0",
    "192.0.2.0/29",
    "2001:db8::/32",
    "2001:db8::1",
    "::/0",
)
INTERFACES = ("eth0", "eth1")
PORTS = (0, 22, 80, 443, 8000, 8050, 8100, 65535)
STATES = ("new", "established", "invalid")
ZONES = ("inside", "outside", "servers")
ACTIONS = ("accept", "drop", "reject")


def one_or_some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3)


networks = one_or_some(st.sampled_from(NETWORKS))
zone_names = one_or_some(st.sampled_from(ZONES))
ports = one_or_some(st.sampled_from((*PORTS, "8000-8100", "1-1023")))
zones = st.fixed_dictionaries({"interface": st.sampled_from(INTERFACES)}, optional={"networks": networks}) | (
    st.fixed_dictionaries({"networks": networks})
)
directions = {"from": zone_names, "to": zone_names}
rules = st.fixed_dictionaries(
    {"action": st.sampled_from((*ACTIONS, "log"))},
    optional={
        **directions,
        "src": networks,
        "dst": networks,
        "proto": one_or_some(st.sampled_from(("tcp", "udp", "icmp", "icmp6", 47))),
        "port": ports,
        "sport": ports,
        "icmp": one_or_some(st.sampled_from(("echo-request", 3, 8, 128, "3/4"))),
        "state": one_or_some(st.sampled_from(STATES)),
    },
)
files = st.fixed_dictionaries(
    {"zone": st.fixed_dictionaries(dict.fromkeys(ZONES, zones))},
    optional={
        "rule": st.lists(rules, max_size=6),
        "default": st.lists(
            st.fixed_dictionaries({"action": st.sampled_from(ACTIONS)}, optional=directions), max_size=3
        ),
        "invalid": st.sampled_from(ACTIONS),
        "midstream": st.booleans(),
    },
)
packets = st.fixed_dictionaries(
    {
        "enters": st.sampled_from((None, *INTERFACES)),
        "leaves": st.sampled_from((None, *INTERFACES)),
        "src": st.sampled_from(ADDRESSES),
        "dst": st.sampled_from(ADDRESSES),
    }
).flatmap(
    lambda ends: (
        st.builds(
            lambda proto, sport, dport: {
                **ends,
                "proto": proto,
                "sport": sport,
                "dport": dport,
                "icmp": None,
            },
            st.sampled_from((6, 17)),
            st.sampled_from(PORTS),
            st.sampled_from(PORTS),
        )
        | st.builds(
            lambda proto, kind, code: {
                **ends,
                "proto": proto,
                "sport": None,
                "dport": None,
                "icmp": (kind, code),
            },
            st.sampled_from((1, 58)),
            st.sampled_from((0, 3, 8, 128)),
            st.sampled_from((0, 4)),
        )
        | st.just({**ends, "proto": 47, "sport": None, "dport": None, "icmp": None})
    )
)


@given(files, st.lists(packets, min_size=1, max_size=5), st.sampled_from(STATES))
def test_rules_decide_as_a_plain_reading_of_the_file(
    file: dict[str, Any], seen: list[dict[str, Any]], state: str
) -> None:
    policy = policy_of(file)
    for packet in seen:
        verdict = policy.judge(question(packet), state)
        assert (verdict.rule.name, verdict.rule.action) == decide(file, packet, state)


@given(files, packets)
def test_judging_again_what_was_accepted_decides_the_same(
    file: dict[str, Any], packet: dict[str, Any]
) -> None:
    """A recheck with the same file ends nothing."""
    policy = policy_of(file)
    if policy.judge(question(packet), "new").rule.action == ACCEPT:
        assert policy.judge(question(packet), "new", limited=False).rule.action == ACCEPT


def policy_of(file: dict[str, Any]) -> Policy:
    with TemporaryDirectory() as folder:
        path = Path(folder, "rules.toml")
        path.write_text(toml(file))
        return read_policy(path)


def question(packet: dict[str, Any]) -> Question:
    return Question(**{**packet, "src": ip_address(packet["src"]), "dst": ip_address(packet["dst"])})


def toml(file: dict[str, Any]) -> str:
    """Write a file of this shape down; JSON's texts, numbers, booleans and lists are TOML's too."""
    keys = [(name, value) for name, value in file.items() if not isinstance(value, dict | list)]
    lines = [f"{name} = {json.dumps(value)}" for name, value in keys]
    for name, zone in file["zone"].items():
        lines += [f"[zone.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in zone.items())]
    for kind in ("rule", "default"):
        for table in file.get(kind, []):
            lines += [f"[[{kind}]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines)
