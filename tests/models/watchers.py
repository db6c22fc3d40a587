"""Who watches which flow, as a dictionary."""

from dataclasses import dataclass

from aiomos import Level


@dataclass(eq=False)
class Rule:
    """What one app watches.

    Attributes:
        number: As the engine calls it.
        odd: Whether only flows of odd ports.
        level: How much of each.
    """

    number: int
    odd: bool
    level: Level

    def picks(self, port: int) -> bool:
        return bool(port % 2) or not self.odd


class Watchers:
    """Flows by the client's port, each with the rules that watch it."""

    def __init__(self) -> None:
        self.rules: set[Rule] = set()
        self.flows: dict[int, set[Rule]] = {}

    def add(self, rule: Rule, *, picks_up: bool) -> None:
        """From now on flows are watched that the rule picks, and those that run, if it picks these up."""
        self.rules.add(rule)
        for port, watchers in self.flows.items():
            if picks_up and rule.picks(port):
                watchers.add(rule)

    def remove(self, rule: Rule) -> None:
        """Nothing is watched for a rule any more, from one moment to the next."""
        self.rules.remove(rule)
        for watchers in self.flows.values():
            watchers.discard(rule)

    def open(self, port: int) -> None:
        """A flow that nobody watches is none."""
        watchers = {rule for rule in self.rules if rule.picks(port)}
        if watchers:
            self.flows[port] = watchers

    def stop(self, port: int, rule: Rule) -> None:
        self.flows[port].discard(rule)

    def end(self, port: int) -> None:
        del self.flows[port]

    def level(self, port: int) -> Level:
        """The least that all who watch a flow need together."""
        return max((rule.level for rule in self.flows[port]), default=Level.STATE)
