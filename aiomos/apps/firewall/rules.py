"""What a rule file says: zones, rules, defaults; and what it makes of a packet.

Rules are looked at in order, and the first that matches decides. They are looked at for the first packet of a
connection, not for those that follow, so they are plain tests and no compiled table. Which rules can be about packets
of a state and a protocol, from some zones to others, is noted once: a flood of first packets meets only those.
"""

import difflib
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import attrs

from aiomos.apps._tables import (
    Address,
    Networks,
    build,
    choice,
    each,
    flag,
    load,
    network,
    number,
    ports,
    reads,
    seconds,
    shared,
    text,
)
from aiomos.apps.firewall.icmp import ICMP, ICMP6, NAMES, TCP, UDP
from aiomos.apps.firewall.limits import Limiter, limiter, rate
from aiomos.errors import OptionError

PROTOCOLS = {
    "tcp": TCP,
    "udp": UDP,
    "icmp": ICMP,
    "icmp6": ICMP6,
    "igmp": 2,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "ospf": 89,
    "sctp": 132,
}

NEW, ESTABLISHED, INVALID = STATES = ("new", "established", "invalid")
ACCEPT, DROP, REJECT, LOG = ("accept", "drop", "reject", "log")


IcmpType = tuple[int, int, int | None]
"""Protocol, type and code; None for any code."""


class Question(NamedTuple):
    """A packet as rules see it.

    Attributes:
        enters: Name of the interface it came in by; None where that has no name.
        leaves: Name of the interface it would leave by; None where that is not known.
        proto: Protocol number.
        src: Address of its sender.
        dst: Address of its receiver.
        sport: Port of its sender, of TCP and UDP.
        dport: Port of its receiver.
        icmp: Type and code, of ICMP.
        time: Seconds on the engine's clock.
    """

    enters: str | None
    leaves: str | None
    proto: int
    src: Address
    dst: Address
    sport: int | None = None
    dport: int | None = None
    icmp: tuple[int, int] | None = None
    time: float = 0.0


# --- reading ------------------------------------------------------------------------------------------


def _protocol(value: object) -> int:
    if type(value) is int and 0 <= value <= 255:
        return value
    return PROTOCOLS[text(value)] if text(value) in PROTOCOLS else int(text(value))


def _icmp(value: object) -> frozenset[IcmpType]:
    """Read a name, a type, or a type and a code, as ``"3/4"``: (protocol, type, code)."""
    if isinstance(value, str) and value in NAMES:
        return frozenset((proto, kind, None) for proto, kind in NAMES[value])
    kind, _, code = str(value).partition("/")
    if isinstance(value, bool) or not 0 <= int(kind) <= 255:
        raise ValueError(value)
    return frozenset((proto, int(kind), int(code) if code else None) for proto in (ICMP, ICMP6))


def _networks(value: object) -> Networks:
    return Networks(each(network)(value))


def _names(value: object) -> frozenset[str]:
    return shared(frozenset(each(text)(value)))


def _protocols(value: object) -> frozenset[int]:
    return shared(frozenset(each(_protocol)(value)))


def _icmp_types(value: object) -> frozenset[IcmpType]:
    return shared(frozenset().union(*each(_icmp)(value)))


def _ports(value: object) -> Container[int | None]:
    ranges = each(ports)(value)
    return ranges[0] if len(ranges) == 1 else shared(frozenset().union(*ranges))


def _states(value: object) -> frozenset[str]:
    return shared(frozenset(each(choice(*STATES))(value)))


def _midstream(value: object) -> float:
    """Read true, false or for how many seconds."""
    return (float("inf") if value else 0.0) if isinstance(value, bool) else seconds(value)


_NETWORKS = "a network such as 10.0.0.0/8, or a list of networks"
_ZONES = "the name of a zone, or a list of names"
_PORTS = 'a port such as 80, a range such as "8000-8100", or a list of these'
_IDLE = "seconds, above 0"


@attrs.frozen(kw_only=True)
class Zone:
    """A part of the network: what is behind an interface, in some networks, or both.

    Attributes:
        interface: Name of the interface; None for any.
        networks: Its networks; None for any address.
    """

    interface: str | None = attrs.field(default=None, metadata=reads(text, "the name of an interface"))
    networks: Networks | None = attrs.field(default=None, metadata=reads(_networks, _NETWORKS))

    def __attrs_post_init__(self) -> None:
        if self.interface is None and self.networks is None:
            raise ValueError("must have an interface, networks or both")

    def has(self, interface: str | None, address: Address) -> bool:
        """Tell whether an address, met at an interface, is in it."""
        if self.interface is not None and self.interface != interface:
            return False
        return self.networks is None or address in self.networks


@attrs.frozen(kw_only=True, eq=False)
class Rule:
    """What to do with packets of some kind; what it does not name may be anything."""

    name: str = attrs.field(default="", metadata=reads(text, "text"))
    from_: frozenset[str] | None = attrs.field(default=None, metadata=reads(_names, _ZONES))
    to: frozenset[str] | None = attrs.field(default=None, metadata=reads(_names, _ZONES))
    src: Networks | None = attrs.field(default=None, metadata=reads(_networks, _NETWORKS))
    dst: Networks | None = attrs.field(default=None, metadata=reads(_networks, _NETWORKS))
    proto: frozenset[int] | None = attrs.field(
        default=None,
        metadata=reads(_protocols, f"a protocol ({', '.join(PROTOCOLS)}), its number, or a list of these"),
    )
    sport: Container[int | None] | None = attrs.field(default=None, metadata=reads(_ports, _PORTS))
    port: Container[int | None] | None = attrs.field(default=None, metadata=reads(_ports, _PORTS))
    icmp: frozenset[IcmpType] | None = attrs.field(
        default=None,
        metadata=reads(
            _icmp_types,
            f'a type ({", ".join(NAMES)}), its number, number and code as "3/4", or a list of these',
        ),
    )
    state: frozenset[str] = attrs.field(
        default=frozenset({NEW}), metadata=reads(_states, f"one of {', '.join(STATES)}, or a list of these")
    )
    limit: float | None = attrs.field(
        default=None, metadata=reads(rate, 'a rate such as "10/second" or "100/hour"')
    )
    burst: int = attrs.field(default=5, metadata=reads(number, "a whole number, at least 1"))
    limit_by: Literal["rule", "source"] = attrs.field(
        default="rule", metadata=reads(choice("rule", "source"), "rule or source")
    )
    log: bool = attrs.field(default=False, metadata=reads(flag, "true or false"))
    action: str = attrs.field(
        metadata=reads(choice(ACCEPT, DROP, REJECT, LOG), f"one of {ACCEPT}, {DROP}, {REJECT}, {LOG}")
    )
    _limiter: Limiter | None = attrs.field(
        init=False, default=attrs.Factory(lambda self: self._make_limiter(), takes_self=True)
    )

    def concerns(self, state: str, proto: int, sources: frozenset[str], targets: frozenset[str]) -> bool:
        """Tell whether it can be about packets of a kind.

        Args:
            state: What is known of them.
            proto: Their protocol.
            sources: The zones that they come from.
            targets: The zones that they go to.
        """
        return (
            state in self.state
            and (self.proto is None or proto in self.proto)
            and (self.from_ is None or not self.from_.isdisjoint(sources))
            and (self.to is None or not self.to.isdisjoint(targets))
        )

    def matches(self, question: Question, *, limited: bool = True) -> bool:
        """Tell whether it is about a packet of a kind that it concerns; with a limit, that takes a token.

        Args:
            question: The packet.
            limited: Whether its limit counts.
        """
        return (
            (self.port is None or question.dport in self.port)
            and (self.sport is None or question.sport in self.sport)
            and (self.icmp is None or _is_icmp(question, self.icmp))
            and (self.src is None or question.src in self.src)
            and (self.dst is None or question.dst in self.dst)
            and (not limited or self._limiter is None or self._limiter(question.src, question.time))
        )

    def _make_limiter(self) -> Limiter | None:
        return None if self.limit is None else limiter(self.limit, self.burst, self.limit_by)


def _is_icmp(question: Question, types: frozenset[IcmpType]) -> bool:
    if question.icmp is None:
        return False
    kind, code = question.icmp
    return (question.proto, kind, None) in types or (question.proto, kind, code) in types


@attrs.frozen(kw_only=True)
class Default:
    """What is done from one zone to another where no rule matches."""

    from_: frozenset[str] | None = attrs.field(default=None, metadata=reads(_names, _ZONES))
    to: frozenset[str] | None = attrs.field(default=None, metadata=reads(_names, _ZONES))
    log: bool = attrs.field(default=False, metadata=reads(flag, "true or false"))
    action: str = attrs.field(
        metadata=reads(choice(ACCEPT, DROP, REJECT), f"one of {ACCEPT}, {DROP}, {REJECT}")
    )

    def rule(self, name: str) -> Rule:
        """Make the rule that says the same."""
        return Rule(name=name, from_=self.from_, to=self.to, log=self.log, action=self.action)


@attrs.frozen(kw_only=True)
class File:
    """The keys of a rule file outside its tables."""

    zone: dict[str, Any] = attrs.field(factory=dict, metadata=reads(dict, "tables of zones, [zone.NAME]"))
    rule: list[Any] = attrs.field(factory=list, metadata=reads(list, "tables of rules, [[rule]]"))
    default: list[Any] = attrs.field(factory=list, metadata=reads(list, "tables of defaults, [[default]]"))
    invalid: str = attrs.field(
        default=DROP, metadata=reads(choice(ACCEPT, DROP, REJECT), f"one of {ACCEPT}, {DROP}, {REJECT}")
    )
    midstream: float = attrs.field(
        default=0.0, metadata=reads(_midstream, "true, false, or for how many seconds")
    )
    recheck: bool = attrs.field(default=False, metadata=reads(flag, "true or false"))
    udp_idle: float = attrs.field(default=120.0, metadata=reads(seconds, _IDLE))
    icmp_idle: float = attrs.field(default=30.0, metadata=reads(seconds, _IDLE))


# --- judging ------------------------------------------------------------------------------------------


Kind = tuple[str, int, frozenset[str], frozenset[str]]
"""State, protocol, zones of the sender and of the receiver."""

UNNAMED = -1
"""All protocols that no rule names: senders choose among 256, and each kind has a list of rules."""


class Verdict(NamedTuple):
    """What is to be done with a packet.

    Attributes:
        rule: The rule that decides.
        notes: Rules before it that want the packet logged.
    """

    rule: Rule
    notes: tuple[Rule, ...] = ()


@attrs.frozen(kw_only=True)
class Policy:
    """All that a rule file says.

    Attributes:
        zones: The zones by name.
        rules: The rules in order.
        defaults: What is done where none matches: the defaults in order, and last the one that drops all.
        invalid: What is done with what no rule takes of packets that belong to nothing, or are not believed.
        midstream: For how many seconds connections that are older than the firewall are judged as though they were new.
        recheck: Whether connections are judged again when the file has changed.
        udp_idle: Seconds without a packet after which UDP between two ends is new again.
        icmp_idle: Seconds after which echo requests are.
    """

    zones: Mapping[str, Zone]
    rules: tuple[Rule, ...]
    defaults: tuple[Rule, ...]
    invalid: Rule
    midstream: float = 0.0
    recheck: bool = False
    udp_idle: float = 120.0
    icmp_idle: float = 30.0
    _by_kind: dict[Kind, tuple[Rule, ...]] = attrs.field(init=False, factory=dict)
    _protocols: frozenset[int] = attrs.field(
        init=False,
        default=attrs.Factory(
            lambda self: frozenset().union(*(rule.proto or () for rule in self.rules)), True
        ),
    )

    def judge(self, question: Question, state: str, *, age: float = 0.0, limited: bool = True) -> Verdict:
        """Find the first rule that matches a packet, or the default.

        Args:
            question: The packet.
            state: Whether it is the first of its kind, ``new``; of a connection that is older than the firewall,
                ``established``; or of none and not believed, ``invalid``.
            age: Seconds since the firewall has begun.
            limited: Whether rate limits count; it is without them that what was accepted is judged again.
        """
        rule, notes = self._first(question, state, limited)
        if rule is None and state == ESTABLISHED:
            state = NEW if age < self.midstream else INVALID
            rule, more = self._first(question, state, limited)
            notes += more
        return Verdict(rule or self.invalid, notes)

    def _first(self, question: Question, state: str, limited: bool) -> tuple[Rule | None, tuple[Rule, ...]]:
        """Find the first rule that matches and decides, and those before it that match and do not."""
        notes: tuple[Rule, ...] = ()
        for rule in self._concerned(question, state):
            if rule.matches(question, limited=limited):
                if rule.action != LOG:
                    return rule, notes
                notes += (rule,)
        return None, notes

    def _concerned(self, question: Question, state: str) -> tuple[Rule, ...]:
        """List the rules, and what is done where none of them matches, that can be about a packet."""
        kind = (
            state,
            question.proto if question.proto in self._protocols else UNNAMED,
            self._zones_of(question.enters, question.src),
            self._zones_of(question.leaves, question.dst),
        )
        listed = self._by_kind.get(kind)
        if listed is None:
            listed = self._note(kind)
        return listed

    def _note(self, kind: Kind) -> tuple[Rule, ...]:
        rules = (*self.rules, *self.defaults)
        listed = self._by_kind[kind] = tuple(rule for rule in rules if rule.concerns(*kind))
        return listed

    def expect(self, kinds: Iterable[Kind]) -> None:
        """Note beforehand which rules can be about packets of such kinds."""
        for kind in kinds:
            self._note(kind)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of packets that it has judged so far."""
        return tuple(self._by_kind)

    def _zones_of(self, interface: str | None, address: Address) -> frozenset[str]:
        return frozenset(name for name, zone in self.zones.items() if zone.has(interface, address))


def read_policy(path: Path) -> Policy:
    """Read a rule file.

    Raises:
        OptionError: something in it is wrong; the message names the rule and the key.
        OSError: it cannot be read.
    """
    file = build(File, load(path), str(path))
    zones = {name: build(Zone, table, f"{path}: zone {name}") for name, table in file.zone.items()}
    rules = tuple(_read_rules(file.rule, zones, path))
    defaults = tuple(_read_default(table, place, zones, path) for place, table in enumerate(file.default, 1))
    _check_names(rules, path)
    return Policy(
        zones=zones,
        rules=rules,
        defaults=(*defaults, Rule(name="default", action=DROP)),
        invalid=Rule(name="invalid", action=file.invalid, state=frozenset({INVALID})),
        midstream=file.midstream,
        recheck=file.recheck,
        udp_idle=file.udp_idle,
        icmp_idle=file.icmp_idle,
    )


def _read_rules(tables: list[Any], zones: Mapping[str, Zone], path: Path) -> Iterator[Rule]:
    """Read the rules, and free each table after it: many thousand at once would hold up other threads."""
    tables.reverse()
    for place in range(1, len(tables) + 1):
        yield _read_rule(tables.pop(), place, zones, path)


def _read_rule(table: object, place: int, zones: Mapping[str, Zone], path: Path) -> Rule:
    name = table.get("name") if isinstance(table, dict) else None
    where = f"{path}: rule {place}" + (f" ({name})" if name else "")
    rule = build(Rule, table, where)
    _check_zones(rule, zones, where)
    return rule if rule.name else attrs.evolve(rule, name=f"rule {place}")


def _read_default(table: object, place: int, zones: Mapping[str, Zone], path: Path) -> Rule:
    where = f"{path}: default {place}"
    rule = build(Default, table, where).rule(f"default {place}")
    _check_zones(rule, zones, where)
    return rule


def _check_zones(rule: Rule, zones: Mapping[str, Zone], where: str) -> None:
    for name, wanted in (("from", rule.from_), ("to", rule.to)):
        for zone in sorted(wanted or ()):
            if zone not in zones:
                close = difflib.get_close_matches(zone, zones, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"zones are {', '.join(zones) or 'none'}"
                raise OptionError(f"{where}: {name} = {zone!r}: there is no such zone; {hint}")


def _check_names(rules: Iterable[Rule], path: Path) -> None:
    seen: set[str] = set()
    for place, rule in enumerate(rules, 1):
        if rule.name in seen:
            raise OptionError(f"{path}: rule {place}: name = {rule.name!r}: another rule has that name")
        seen.add(rule.name)
