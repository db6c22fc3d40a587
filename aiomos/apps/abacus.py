"""Traffic accounts of subscribers, and who evades them: data hidden in TCP retransmissions.

::

    aiomos run aiomos.apps.abacus --pcap trace.pcap --set subscribers=10.0.0.0/8 --set prefix=24
    aiomos run aiomos.apps.abacus --pcap trace.pcap --set format=jsonl --set interval=300 --set path=usage.jsonl

An operator that does not charge retransmissions invites its subscribers to send their data in segments that look like
retransmissions and say something else. Go, Won, Kune, Jeong, Kim and Park describe this and its detector, Abacus, in
"Gaining Control of Cellular Traffic Accounting by Spurious TCP Retransmission" (NDSS 2014). Here, each retransmission
is compared with the bytes held of what was sent before; where they differ by more than a threshold, it is an alert with
both versions as evidence. Bytes that were not captured, or are held no more, are counted as unchecked and say nothing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from operator import add, sub
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import attrs

from aiomos import CONN_TEARDOWN, PKT_IN, REXMIT, TIMEOUT, App, CallbackRegistration, Level
from aiomos.apps._output import Output, endpoint, ends_of, share
from aiomos.logging import get_logger
from aiomos.options import must

if TYPE_CHECKING:
    from aiomos import Flow, Half, Occurrence

Network = IPv4Network | IPv6Network

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
"""Addresses that subscribers mostly have: RFC 1918, RFC 6598, RFC 4193."""

CACHED_ADDRESSES = 1 << 16


def _at_least(least: float) -> Any:
    return must(f"at least {least}", lambda value: value >= least)


@attrs.define
class Options:
    """Whose traffic is counted, what is charged, and when differing bytes are an alert.

    Attributes:
        path: File to write; standard output without it.
        format: table for people, at the end; jsonl for JSON Lines, alerts at once.
        subscribers: Networks of the subscribers.
        prefix: Length of the IPv4 prefix that is one subscriber.
        prefix6: The same of IPv6.
        policy: What is charged: all payload; each byte of a stream once, no-retransmissions; or all but the bytes that
            were compared with what was sent before and found the same, no-identical.
        interval: Seconds of packet time after which accounts begin anew; 0 for one account of the whole run.
        threshold: Bytes of a half that were sent again and differ, from which on there are alerts.
        evidence: Bytes of either version that an alert shows.
        alerts: Alerts that are written of one half; what is more is counted.
        limit: Accounts of an interval at most; all subscribers beyond them have one, others.
        filter: Which connections; all without it.
        midstream: Whether connections whose SYN was not captured are counted too.
    """

    path: Path | None = None
    format: Literal["table", "jsonl"] = "table"
    subscribers: tuple[Network, ...] = tuple(map(ip_network, PRIVATE))
    prefix: int = attrs.field(default=32, validator=must("from 0 to 32", lambda value: 0 <= value <= 32))
    prefix6: int = attrs.field(default=64, validator=must("from 0 to 128", lambda value: 0 <= value <= 128))
    policy: Literal["all", "no-retransmissions", "no-identical"] = "no-identical"
    interval: float = attrs.field(default=0.0, validator=_at_least(0))
    threshold: int = attrs.field(default=64, validator=_at_least(1))
    evidence: int = attrs.field(default=2048, validator=_at_least(0))
    alerts: int = attrs.field(default=100, validator=_at_least(0))
    limit: int = attrs.field(default=100_000, validator=_at_least(1))
    filter: str = ""
    midstream: bool = True


COUNTED = ("bytes", "stream_bytes", "identical_bytes", "differing_bytes")
"""Of each direction: payload as sent, each byte of it once, bytes sent again that are the same, and that are not."""

Figures = tuple[int, ...]
"""A number for each of `COUNTED`."""

NOTHING: Figures = (0,) * len(COUNTED)

CHARGES: dict[str, Callable[[Figures], int]] = {
    "all": lambda figures: figures[0],
    "no-retransmissions": lambda figures: figures[1],
    "no-identical": lambda figures: figures[0] - figures[2],
}

OTHERS = "others"
"""All subscribers for whom there is no room: senders of SYNs choose their addresses as they like."""

app = App("abacus", options=Options)


@app.ude(PKT_IN, native=True)
def first_packet(flow: "Flow") -> bool:
    """Whether a flow has just begun."""
    return flow.client.packets + flow.server.packets == 1


# --- retransmissions ----------------------------------------------------------------------------------


@attrs.define
class Tally:
    """What is known of a half beyond what the engine counts.

    Attributes:
        identical: Bytes sent again, compared and found the same.
        differing: Bytes sent again, compared and found to differ.
        segments: Stretches with such bytes.
        alerts: Alerts made of them.
        pending: Alerts below the threshold.
        charged: What is on account already.
    """

    identical: int = 0
    differing: int = 0
    segments: int = 0
    alerts: int = 0
    pending: list[dict[str, Any]] = attrs.field(factory=list)
    charged: Figures = NOTHING

    def take(self, half: "Half") -> Figures:
        """Charge what has come since this was last called."""
        now = (half.bytes - half.copied_bytes, half.stream_bytes, self.identical, self.differing)
        new, self.charged = tuple(map(sub, now, self.charged)), now
        return new


def tally_of(half: "Half", ctx: dict[str, Tally]) -> Tally:
    """Find the tally of a half, which is made when first asked for."""
    return ctx.get(half.name) or ctx.setdefault(half.name, Tally())


class Stretch(NamedTuple):
    """Bytes that were sent twice, and at how many places the two versions differ."""

    offset: int
    old: bytes
    new: bytes
    differing: int


def repeated(half: "Half", offset: int, data: bytes) -> Iterator[Stretch]:
    """Find what is held in the place of a segment that begins at *offset*, stretch by stretch."""
    for start, end in half.held_within(offset, len(data)):
        old, new = half.peek(start, end - start), data[start - offset : end - offset]
        yield Stretch(start, old, new, count_differing(old, new))


def count_differing(old: bytes, new: bytes) -> int:
    """Count the places at which two texts of the same length differ."""
    if old == new:
        return 0
    return len(old) - (int.from_bytes(old) ^ int.from_bytes(new)).to_bytes(len(old)).count(0)


# --- accounts -----------------------------------------------------------------------------------------


@attrs.define
class Account:
    """What one subscriber has sent and received, and on how many flows."""

    flows: int = 0
    up: Figures = NOTHING
    down: Figures = NOTHING

    def add(self, up: Figures, down: Figures) -> None:
        """Add what is new of a flow."""
        self.up = tuple(map(add, self.up, up))
        self.down = tuple(map(add, self.down, down))

    def record(self, policy: str) -> dict[str, int]:
        """Write the account down."""
        return {"flows": self.flows, **bill("up", self.up, policy), **bill("down", self.down, policy)}


def bill(direction: str, figures: Figures, policy: str) -> dict[str, int]:
    """Complete the figures of one direction: what is charged, and what was sent again and not compared."""
    payload, stream, identical, differing = figures
    return {
        **{f"{direction}_{name}": figure for name, figure in zip(COUNTED, figures, strict=True)},
        f"{direction}_unchecked_bytes": max(payload - stream - identical - differing, 0),
        f"{direction}_charged_bytes": CHARGES[policy](figures),
    }


class Abacus:
    """The accounts and alerts of one run: its callbacks, and where they write."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._output = Output(options.path)
        self._subscriber = lru_cache(CACHED_ADDRESSES)(self._find_subscriber)
        self._interval = 0
        self._accounts: defaultdict[str, Account] = defaultdict(Account)
        self._table: dict[str, list[dict[str, Any]]] = {"usage": [], "suspect": []}
        self._put_together = 0  # flows that were put on the account of others

    def register(self) -> list[CallbackRegistration]:
        """Have retransmissions compared, and put on account what a flow sent at its end and after each interval."""
        options = self._options
        networks = " or ".join(f"net {network}" for network in options.subscribers)
        chosen: dict[str, Any] = {
            "filter": f"({options.filter}) and ({networks})" if options.filter else networks,
            "level": Level.STREAM,
            "midstream": options.midstream,
        }
        registrations = [app.on(REXMIT, **chosen)(self.compare), app.on(CONN_TEARDOWN, **chosen)(self.ended)]
        if options.interval:
            registrations += [
                app.on(first_packet, **chosen)(self.begun),
                app.on(TIMEOUT, **chosen)(self.passed),
            ]
        return registrations

    def compare(self, flow: "Flow", half: "Half", event: "Occurrence") -> None:
        """Compare a retransmission, before it is merged, with all that is held of what it repeats."""
        if event.new is None:
            return
        tally = tally_of(half, flow.ctx)
        for stretch in repeated(half, event.offset or 0, event.new):
            tally.identical += len(stretch.new) - stretch.differing
            if stretch.differing:
                tally.differing += stretch.differing
                tally.segments += 1
                self._accuse(tally, flow, half, event, stretch)

    def begun(self, flow: "Flow", time: float) -> None:
        """Have a flow asked when the interval is over, which begins on the clock."""
        flow.timer(self._options.interval - time % self._options.interval)

    def passed(self, flow: "Flow", time: float) -> None:
        """Put on account what a flow sent in the interval that ends."""
        self._settle(flow, round(time / self._options.interval) - 1)
        flow.timer(self._options.interval)

    def ended(self, flow: "Flow", time: float) -> None:
        """Put on account what a flow has sent, and sum up what it was suspected of."""
        interval = self._options.interval
        self._settle(flow, int(time // interval) if interval else 0)
        for half in (flow.client, flow.server):
            tally = tally_of(half, flow.ctx)
            if tally.differing >= self._options.threshold:
                self._sum_up(tally, flow, half)

    def close(self) -> None:
        """Close the accounts and write what is left."""
        try:
            self._close_accounts()
            if self._options.format == "table":
                self._output.summarise(self._table, partial(draw, self._options))
        finally:
            self._output.close()
        if self._put_together:
            limit = self._options.limit
            get_logger("abacus").warning("limit_reached", accounts=limit, put_together=self._put_together)

    # --- alerts ---------------------------------------------------------------------------------------

    def _accuse(
        self, tally: Tally, flow: "Flow", half: "Half", event: "Occurrence", stretch: Stretch
    ) -> None:
        """Make an alert; it is written, with those before it, once there are enough differing bytes."""
        options = self._options
        if tally.alerts < options.alerts:
            tally.alerts += 1
            tally.pending.append(
                {
                    "record": "alert",
                    "time": event.time,
                    **self._who(flow, half),
                    "kind": event.kind,
                    "offset": stretch.offset,
                    "length": len(stretch.new),
                    "differing_bytes": stretch.differing,
                    "differing_share": share(stretch.differing, len(stretch.new)),
                    "old": stretch.old[: options.evidence].hex(),
                    "new": stretch.new[: options.evidence].hex(),
                }
            )
        if tally.differing < options.threshold:
            return
        if options.format == "jsonl":
            for alert in tally.pending:
                self._output.write(alert)
            self._output.file.flush()
        tally.pending.clear()

    def _sum_up(self, tally: Tally, flow: "Flow", half: "Half") -> None:
        self._write(
            {
                "record": "suspect",
                **self._who(flow, half),
                "segments": tally.segments,
                "alerts": tally.alerts,
                "differing_bytes": tally.differing,
                "differing_share": share(tally.differing, tally.differing + tally.identical),
            }
        )

    def _who(self, flow: "Flow", half: "Half") -> dict[str, Any]:
        subscriber = self._subscriber(half.address) or self._subscriber(half.peer.address)
        return {**ends_of(flow), "sender": half.name, "subscriber": subscriber}

    # --- accounts -------------------------------------------------------------------------------------

    def _settle(self, flow: "Flow", interval: int) -> None:
        """Put what is new of a flow on its subscribers' accounts of an interval, after closing earlier ones."""
        if interval > self._interval:
            self._close_accounts()
            self._interval = interval
        halves = (flow.client, flow.server)
        client, server = (tally_of(half, flow.ctx).take(half) for half in halves)
        if not any(client + server) and flow.reason is None:
            return
        subscribers = [self._account_name(half.address) for half in halves]
        for subscriber, up, down in zip(subscribers, (client, server), (server, client), strict=True):
            if subscriber is not None:
                self._accounts[subscriber].add(up, down)
        for subscriber in {*subscribers}:
            if subscriber is not None:
                self._accounts[subscriber].flows += 1

    def _account_name(self, address: str) -> str | None:
        """Name the account of an address: a subscriber's, or that of others if there are too many."""
        subscriber = self._subscriber(address)
        accounts = self._accounts
        if subscriber is None or subscriber in accounts or len(accounts) < self._options.limit:
            return subscriber
        self._put_together += 1
        return OTHERS

    def _close_accounts(self) -> None:
        seconds = self._options.interval
        when = {"start": self._interval * seconds, "end": (self._interval + 1) * seconds} if seconds else {}
        for subscriber, account in sorted(self._accounts.items()):
            usage = account.record(self._options.policy)
            self._write({"record": "usage", "subscriber": subscriber, **when, **usage})
        self._accounts.clear()

    def _write(self, record: dict[str, Any]) -> None:
        if self._options.format == "jsonl":
            self._output.write(record)
        else:
            self._table[record["record"]].append(record)

    def _find_subscriber(self, address: str) -> str | None:
        """Name the subscriber that an address belongs to; None if it is nobody's."""
        ip = ip_address(address)
        if not any(ip in network for network in self._options.subscribers):
            return None
        prefix = self._options.prefix if ip.version == 4 else self._options.prefix6
        return address if prefix == ip.max_prefixlen else str(ip_network(f"{ip}/{prefix}", strict=False))


# --- tables -------------------------------------------------------------------------------------------

USAGE = {
    "bytes": "bytes",
    "once": "stream_bytes",
    "charged": "charged_bytes",
    "differ": "differing_bytes",
    "unchecked": "unchecked_bytes",
}
WAYS = ("up", "down")


def draw(options: Options, parts: Sequence[dict[str, list[dict[str, Any]]]], file: IO[bytes]) -> None:
    """Draw the table of accounts, and that of suspects if there are any, as each worker has them."""
    from aiomos.console.terminal import Layout, print_table

    usage = add_usage(record for part in parts for record in part["usage"])
    suspects = [record for part in parts for record in part["suspect"]]
    headings = ("subscriber", *(("from",) if options.interval else ()), "flows")
    figures = tuple(f"{way} {heading}" for way in WAYS for heading in USAGE)
    title = f"Accounts: {len(usage):,}; charged: {options.policy}"
    spare = [f"{way} {heading}" for heading in ("unchecked", "once", "differ", "bytes") for way in WAYS]
    layout = Layout(spare=spare)
    print_table(title, headings + figures, list(map(usage_row, usage)), file=file, layout=layout)
    if suspects:
        headings = ("subscriber", "from", "to", "segments", "differing bytes", "of those compared")
        title = f"Halves with retransmissions that say something else: {len(suspects):,}"
        layout = Layout(stacked=[("from", "to")], spare=["of those compared", "segments"])
        print_table(title, headings, list(map(suspect_row, suspects)), file=file, layout=layout)


def add_usage(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sum the accounts of a subscriber that several workers have of one interval."""
    accounts: dict[tuple[float, str], dict[str, Any]] = {}
    for record in records:
        key = (record.get("start", 0.0), record["subscriber"])
        account = accounts.get(key)
        accounts[key] = record if account is None else {**account, **_sums(account, record)}
    return [account for _, account in sorted(accounts.items())]


def _sums(one: dict[str, Any], other: dict[str, Any]) -> dict[str, int]:
    return {name: one[name] + other[name] for name in one if name == "flows" or name.endswith("_bytes")}


def usage_row(usage: dict[str, Any]) -> tuple[str, ...]:
    """Make a row of the table of accounts."""
    start = (f"{usage['start']:.3f}".rstrip("0").rstrip("."),) if "start" in usage else ()
    figures = (usage["flows"], *(usage[f"{way}_{name}"] for way in WAYS for name in USAGE.values()))
    return (usage["subscriber"], *start, *(f"{figure:,}" for figure in figures))


def suspect_row(suspect: dict[str, Any]) -> tuple[str, ...]:
    """Make a row of the table of suspects."""
    ends = [endpoint(suspect[side], suspect[f"{side}_port"]) for side in ("client", "server")]
    return (
        suspect["subscriber"],
        *(ends if suspect["sender"] == "client" else reversed(ends)),
        f"{suspect['segments']:,}",
        f"{suspect['differing_bytes']:,}",
        f"{suspect['differing_share']:.0%}",
    )


_running: list[tuple[Abacus, list[CallbackRegistration]]] = []


@app.startup
def open_accounts() -> None:
    """Open the output, and register for the flows of the subscribers."""
    abacus = Abacus(app.options)
    _running.append((abacus, abacus.register()))


@app.shutdown
def close_accounts() -> None:
    """Write what is left and close the output."""
    while _running:
        abacus, registrations = _running.pop()
        for registration in registrations:
            registration.cancel()
        abacus.close()
