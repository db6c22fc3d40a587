"""What a rule file says of a packet, from its text alone: slow, plain, and sharing no code with the app."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58}
ECHO_REQUEST = {1: 8, 58: 128}

Table = dict[str, Any]


def decide(file: Table, packet: Table, state: str) -> tuple[str, str]:
    """Name the rule that decides, and what it does; rules without limits only."""
    for number, rule in enumerate(file.get("rule", []), 1):
        if state in listed(rule.get("state", "new")) and fits(file, rule, packet) and rule["action"] != "log":
            return rule.get("name", f"rule {number}"), rule["action"]
    if state == "established":
        return decide(file, packet, "new" if file.get("midstream", False) else "invalid")
    if state == "invalid":
        return "invalid", file.get("invalid", "drop")
    for number, rule in enumerate(file.get("default", []), 1):
        if fits(file, rule, packet):
            return f"default {number}", rule["action"]
    return "default", "drop"


def fits(file: Table, rule: Table, packet: Table) -> bool:
    """Whether each key of a rule holds of a packet."""
    for key in ("from", "to"):
        interface, address = ("enters", "src") if key == "from" else ("leaves", "dst")
        if key in rule and not any(
            is_in_zone(file["zone"][zone], packet[interface], packet[address]) for zone in listed(rule[key])
        ):
            return False
    for key in ("src", "dst"):
        if key in rule and not any(is_in(packet[key], network) for network in listed(rule[key])):
            return False
    if "proto" in rule and packet["proto"] not in [NUMBERS.get(name, name) for name in listed(rule["proto"])]:
        return False
    for key, port in (("port", packet["dport"]), ("sport", packet["sport"])):
        if key in rule and not any(is_port(port, wanted) for wanted in listed(rule[key])):
            return False
    return "icmp" not in rule or any(is_icmp(packet, wanted) for wanted in listed(rule["icmp"]))


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_in_zone(zone: Table, interface: str | None, address: str) -> bool:
    by_interface = "interface" not in zone or zone["interface"] == interface
    return by_interface and (
        "networks" not in zone or any(is_in(address, network) for network in listed(zone["networks"]))
    )


def is_in(address: str, network: str) -> bool:
    return ip_address(address) in ip_network(network)


def is_port(port: int | None, wanted: int | str) -> bool:
    if port is None:
        return False
    if isinstance(wanted, int):
        return port == wanted
    first, _, last = wanted.partition("-")
    return int(first) <= port <= int(last)


def is_icmp(packet: Table, wanted: int | str) -> bool:
    if packet["icmp"] is None:
        return False
    kind, code = packet["icmp"]
    if wanted == "echo-request":
        return bool(ECHO_REQUEST.get(packet["proto"]) == kind)
    if isinstance(wanted, str):
        return [kind, code] == list(map(int, wanted.split("/")))
    return bool(kind == wanted)
