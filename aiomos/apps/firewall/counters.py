"""What rules have decided, for the log and for Prometheus."""

from typing import Any

import attrs

from aiomos.starting import undone_on_failure


@attrs.define
class Tally:
    """What came of one rule.

    Attributes:
        packets: Packets that it decided upon, and those of what it accepted, once that has ended.
        bytes: Bytes of what it accepted, once that has ended: payload of TCP, whole packets of all else.
        connections: Connections of TCP, and exchanges of UDP and ICMP echo, that it accepted.
    """

    packets: int = 0
    bytes: int = 0
    connections: int = 0


class Counters:
    """The tallies of all rules by name, in the order in which they were first used."""

    def __init__(self) -> None:
        from prometheus_client import Counter

        self._tallies: dict[str, Tally] = {}
        self._labelled: dict[str, list[Any]] = {}
        self._metrics = [
            Counter("aiomos_firewall_packets", "Packets that a rule decided upon or let pass.", ["rule"]),
            Counter("aiomos_firewall_bytes", "Bytes that a rule let pass.", ["rule"]),
            Counter("aiomos_firewall_connections", "Connections that a rule accepted.", ["rule"]),
        ]
        undone_on_failure(self.close)

    def count(self, rule: str, *, packets: int = 0, octets: int = 0, connections: int = 0) -> None:
        """Add to the tally of a rule; *octets* are bytes of what has ended."""
        if rule not in self._tallies:
            self._tallies[rule] = Tally()
            self._labelled[rule] = [metric.labels(rule) for metric in self._metrics]
        tally = self._tallies[rule]
        tally.packets += packets
        tally.bytes += octets
        tally.connections += connections
        for metric, increment in zip(self._labelled[rule], (packets, octets, connections), strict=True):
            if increment:
                metric.inc(increment)

    def listing(self) -> dict[str, dict[str, Any]]:
        """Write all tallies down."""
        return {rule: attrs.asdict(tally) for rule, tally in self._tallies.items()}

    def close(self) -> None:
        """Take the metrics back."""
        from prometheus_client import REGISTRY

        for metric in self._metrics:
            REGISTRY.unregister(metric)
