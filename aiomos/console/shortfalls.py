"""What a run has not followed, read or finished, and why: said in words when it ends, from its counters.

Nothing is lost in silence, but a counter that nobody reads is nearly that. What is normal on any network, such as ARP
or UDP, is no shortfall; what an app's user would believe to have been looked at, and was not, is one.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import attrs


@attrs.frozen
class Shortfall:
    """One of the things that were not followed.

    Attributes:
        name: For logs.
        count: How often, in the unit that the text names.
        text: What, in words, the count included.
        hint: What to do about it, or where to read of it; may be empty.
    """

    name: str
    count: int
    text: str
    hint: str = ""

    def __str__(self) -> str:
        """What and what to do."""
        return f"{self.text}: {self.hint}" if self.hint else self.text


@attrs.frozen
class Kind:
    """One kind of shortfall.

    Attributes:
        name: For logs.
        pattern: Names of its counters; a group in it names a part of the sum.
        text: What is said behind the count, for one and for several.
        hint: As in `Shortfall`.
        measure: Counters of how much that is, by the same parts, with its unit; or empty.
    """

    name: str
    pattern: str
    text: tuple[str, str]
    hint: str = ""
    measure: str = ""


KINDS = (
    Kind(
        "unknown_link",
        r"unread\.linktype\.(.+)",
        ("frame of a link type that is not read", "frames of link types that are not read"),
    ),
    Kind(
        "tunnels",
        r"unread\.(?:udp\.(.+)|protocol\.(gre|ipv4|ipv6|etherip|l2tp|mpls))",
        ("packet of a tunnel that was not looked into", "packets of tunnels that were not looked into"),
        "--decapsulate looks into them",
    ),
    Kind(
        "encrypted",
        r"unread\.(?:encrypted\.(.+)|protocol\.(esp))",
        ("encrypted frame or packet", "encrypted frames or packets"),
    ),
    Kind(
        "link_fragments",
        r"unread\.fragments\.(.+)",
        ("fragment of the link layer, not put together", "fragments of the link layer, not put together"),
    ),
    Kind(
        "wild_times",
        "wild_times",
        ("frame whose time was not believed", "frames whose times were not believed"),
    ),
    Kind("malformed", r"malformed\.(.+)", ("malformed packet", "malformed packets")),
    Kind(
        "without_syn",
        "without_syn",
        (
            "segment of connections whose SYN was not captured",
            "segments of connections whose SYN was not captured",
        ),
        "apps that ask for them with midstream=True follow those, too",
    ),
    Kind(
        "not_believed",
        r"anomaly\.(out_of_window|bad_ack|bad_synack|after_fin)",
        ("segment that does not fit its connection", "segments that do not fit their connections"),
        "a stranger's, or of another network with the same addresses (separate_vlans, separate_tunnels)",
    ),
    Kind(
        "unconfirmed",
        "unconfirmed",
        (
            "segment around a handshake that nothing confirmed",
            "segments around handshakes that nothing confirmed",
        ),
        measure="unconfirmed_bytes",
    ),
    Kind(
        "gaps",
        r"gap\.(.+)",
        ("gap in streams", "gaps in streams"),
        measure=r"gap_bytes\.(.+)",
    ),
    Kind(
        "given_up",
        "evicted|no_memory",
        ("connection given up for want of room", "connections given up for want of room"),
        "raise budgets.flows or budgets.half_open",
    ),
    Kind(
        "fragments",
        r"defrag\.(cut|bad|too_big|overlap_drops|too_many|no_memory|condemned|timeouts|evicted)",
        (
            "fragment or fragmented packet not put together",
            "fragments or fragmented packets not put together",
        ),
    ),
    Kind(
        "kernel_drops",
        r"transport\.(?:dropped|truncated|damaged)",
        ("frame lost on its way from the kernel", "frames lost on their way from the kernel"),
        "more --workers, or apps that do less",
    ),
    Kind(
        "not_sent",
        r"transport\.unsent|in_line\.(?:no_room|nowhere|queued_frames)",
        ("frame that could not be sent on", "frames that could not be sent on"),
    ),
    Kind(
        "cut_short",
        "handlers_cut_short",
        ("handler that was cut short", "handlers that were cut short"),
        "--grace gives them longer to end",
    ),
    Kind(
        "failed",
        r"(handler|callback)_errors",
        ("failure of apps", "failures of apps"),
        "logged as they happened, the first of each app",
    ),
)


def shortfalls(counters: Mapping[str, int]) -> list[Shortfall]:
    """Find what was not followed, by the counters of a run.

    Args:
        counters: As `Runtime.statistics` gives them, or those of several workers added up.
    """
    return [found for kind in KINDS if (found := _shortfall(kind, counters)).count]


def _shortfall(kind: Kind, counters: Mapping[str, int]) -> Shortfall:
    parts: Counter[str] = Counter()
    for name, n in _matching(kind.pattern, counters):
        parts[name] += n
    count = parts.total()
    text = f"{count:,} {kind.text[count != 1]}"
    if kind.measure:
        missing = sum(n for _, n in _matching(kind.measure, counters))
        text = f"{text}, {missing:,} bytes"
    named = [f"{name} {n:,}" for name, n in sorted(parts.items()) if name]
    if named:
        text = f"{text} ({', '.join(named)})"
    return Shortfall(kind.name, count, text, kind.hint)


def _matching(pattern: str, counters: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the part that each counter of a kind stands for, "" where it has none, and its value if that is not 0."""
    for name, n in counters.items():
        if n and (match := re.fullmatch(pattern, name)):
            yield next(filter(None, match.groups()), ""), n
