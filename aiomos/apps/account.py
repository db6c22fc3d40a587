"""Bytes, packets and connections of each subscriber with each server, interval by interval.

::

    aiomos run aiomos.apps.account --pcap trace.pcap --set interval=60
    aiomos run aiomos.apps.account --iface eth0 --set subscribers=10.0.0.0/8 --set format=csv --set path=usage.csv
    aiomos run aiomos.apps.account --iface eth0 --set format=prometheus --metrics :9187

It is the accounting system of the mOS paper, which "only needs to know payload length": bytes are followed and not
delivered (`Level.BYTES`). Who hides data in retransmissions is a matter of `aiomos.apps.abacus`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from operator import add, sub
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import attrs

import aiomos
from aiomos import CONN_TEARDOWN, PKT_IN, TIMEOUT, App, CallbackRegistration, Level
from aiomos.apps._output import Output, endpoint, is_interval
from aiomos.apps.flowlog import Csv, JsonLines, Writer
from aiomos.errors import OptionError, OutputError
from aiomos.logging import get_logger
from aiomos.options import must
from aiomos.starting import undone_on_failure

if TYPE_CHECKING:
    from aiomos import Flow, Half

Network = IPv4Network | IPv6Network

CACHED_ADDRESSES = 1 << 16


@attrs.define
class Options:
    """Whose traffic is counted, how, and where the accounts go.

    Attributes:
        path: File to write; standard output without it.
        format: jsonl for JSON Lines, csv, or prometheus for counters that --metrics serves.
        subscribers: Networks of the subscribers; without any, each client is a subscriber.
        prefix: Length of the IPv4 prefix that is one subscriber.
        prefix6: The same of IPv6.
        server: How the other ends are told apart: by address, by address and port, or not at all, with none.
        count: All payload bytes, or those delivered: each byte of a stream once, however often it was sent.
        interval: Seconds after which accounts begin anew, on the clock: at full minutes with 60. 0 for one account of
            the whole run.
        limit: Accounts of an interval at most, of the run with prometheus; all beyond them are one, others.
        filter: Which connections; all without it.
        midstream: Whether connections whose SYN was not captured are counted too.
    """

    path: Path | None = None
    format: Literal["jsonl", "csv", "prometheus"] = "jsonl"
    subscribers: tuple[Network, ...] = ()
    prefix: int = attrs.field(default=32, validator=must("from 0 to 32", lambda value: 0 <= value <= 32))
    prefix6: int = attrs.field(default=128, validator=must("from 0 to 128", lambda value: 0 <= value <= 128))
    server: Literal["address", "port", "none"] = "address"
    count: Literal["all", "delivered"] = "all"
    interval: float = attrs.field(
        default=60.0, validator=must("0, or a millionth to three years", is_interval)
    )
    limit: int = attrs.field(default=100_000, validator=must("at least 1", lambda value: value >= 1))
    filter: str = ""
    midstream: bool = True


app = App("account", options=Options)


@app.ude(PKT_IN, native=True, once=True)
def first_seen(flow: "Flow") -> object:  # noqa: ARG001  which says that it is about flows
    """The first packet that is seen of a connection, a SYN or not."""
    return True


# --- accounts -----------------------------------------------------------------------------------------

Figures = tuple[int, ...]
"""Packets and bytes that a subscriber has sent (up), and that were sent to it (down)."""

FIGURES = ("up_packets", "up_bytes", "down_packets", "down_bytes")
NOTHING: Figures = (0,) * len(FIGURES)

Parties = tuple[str, str]
"""A subscriber and a server, as they are written down."""

OTHERS: Parties = ("others", "others")
"""All for whom there is no room: senders of SYNs choose their addresses as they like."""


@attrs.define
class Account:
    """What went between a subscriber and a server.

    Attributes:
        connections: How many connections had a part in it.
        figures: What they sent.
    """

    connections: int = 0
    figures: Figures = NOTHING

    def add(self, figures: Figures) -> None:
        """Add what a connection sent."""
        self.connections += 1
        self.figures = tuple(map(add, self.figures, figures))


class Ledger(Protocol):
    """Where accounts go."""

    def enter(self, start: float | None, parties: Parties, account: Account) -> None:
        """Enter an account that is closed; *start* is that of its interval, None for the whole run."""

    def begun(self, parties: Parties) -> None:
        """Note that a connection has begun."""

    def flush(self) -> None:
        """Have what was entered be seen by who reads along."""

    def close(self) -> None:
        """Write what is left."""


def count_sent(half: "Half") -> tuple[int, int]:
    """Packets and payload bytes that were carried: what was captured more than once counts once."""
    return half.packets - half.copies, half.bytes - half.copied_bytes


def count_delivered(half: "Half") -> tuple[int, int]:
    """Packets, and each byte of the stream once."""
    return half.packets - half.copies, half.stream_bytes


class Accounting:
    """The accounts of one run, and the callbacks that feed them.

    Args:
        options: The options.
        ledger: Where accounts go when they are closed.
    """

    def __init__(self, options: Options, ledger: Ledger) -> None:
        self._options = options
        self._ledger = ledger
        self._count = count_sent if options.count == "all" else count_delivered
        self._subscriber = lru_cache(CACHED_ADDRESSES)(self._find_subscriber)
        self._intervals: dict[int, defaultdict[Parties, Account]] = {}
        self._put_together = 0  # connections that were put on the account of others
        self._closing: set[asyncio.Task[None]] = set()

    def register(self) -> list[CallbackRegistration]:
        """Have connections put on account at their end and after each interval."""
        options = self._options
        networks = " or ".join(f"net {network}" for network in options.subscribers)
        chosen: dict[str, Any] = {
            "filter": " and ".join(f"({part})" for part in (options.filter, networks) if part),
            "level": Level.BYTES,
            "midstream": options.midstream,
        }
        registrations = [
            app.on(first_seen, **chosen)(self.begun),
            app.on(CONN_TEARDOWN, **chosen)(self.ended),
        ]
        if options.interval:
            registrations.append(app.on(TIMEOUT, **chosen)(self.passed))
        return registrations

    def begun(self, flow: "Flow", time: float) -> None:
        """Begin to count a connection; it is asked again when the interval is over, which begins on the clock."""
        flow.ctx = NOTHING
        for parties, _ in self._sides(flow, NOTHING):
            self._ledger.begun(parties)
        if self._options.interval:
            flow.timer(self._options.interval - time % self._options.interval)

    def passed(self, flow: "Flow", time: float) -> None:
        """Put on account what a connection sent in the interval that ends."""
        self._settle(flow, round(time / self._options.interval) - 1, time)
        flow.timer(self._options.interval)

    def ended(self, flow: "Flow", time: float) -> None:
        """Put on account what a connection has sent since the interval began."""
        interval = self._options.interval
        self._settle(flow, int(time // interval) if interval else 0, time)

    def close(self) -> None:
        """Close all accounts."""
        for task in self._closing:
            task.cancel()
        try:
            self._close_before(None)
        finally:
            self._ledger.close()
        if self._put_together:
            limit = self._options.limit
            get_logger("account").warning("limit_reached", accounts=limit, put_together=self._put_together)

    def _settle(self, flow: "Flow", number: int, time: float) -> None:
        """Put what is new of a connection on the accounts of an interval."""
        if not isinstance(flow.ctx, tuple):  # no packet was seen of it since the app was attached
            return
        now = (*self._count(flow.client), *self._count(flow.server))
        figures, flow.ctx = tuple(map(sub, now, flow.ctx)), now
        if not any(figures):
            return
        accounts = self._intervals.get(number)
        if accounts is None:
            accounts = self._open(number, time)
        for parties, usage in self._sides(flow, figures):
            if parties not in accounts and len(accounts) >= self._options.limit:
                parties = OTHERS
                self._put_together += 1
            accounts[parties].add(usage)

    def _sides(self, flow: "Flow", figures: Figures) -> Iterator[tuple[Parties, Figures]]:
        """Tell whose accounts a connection belongs on: its client's, or those of its ends that are subscribers."""
        client, server = flow.client, flow.server
        subscriber = self._subscriber(client.address)
        if subscriber is not None:
            yield (subscriber, self._other_end(server)), figures
        if self._options.subscribers and (subscriber := self._subscriber(server.address)) is not None:
            yield (subscriber, self._other_end(client)), figures[2:] + figures[:2]

    def _find_subscriber(self, address: str) -> str | None:
        """Name the subscriber that an address belongs to; None if it is nobody's."""
        ip = ip_address(address)
        options = self._options
        if options.subscribers and not any(ip in network for network in options.subscribers):
            return None
        prefix = options.prefix if ip.version == 4 else options.prefix6
        return address if prefix == ip.max_prefixlen else str(ip_network(f"{ip}/{prefix}", strict=False))

    def _other_end(self, half: "Half") -> str:
        match self._options.server:
            case "address":
                return half.address
            case "port":
                return endpoint(half.address, half.port)
            case "none":
                return ""

    # --- intervals ------------------------------------------------------------------------------------

    def _open(self, number: int, time: float) -> defaultdict[Parties, Account]:
        """Open the accounts of an interval, which are closed when the clock has passed its end."""
        accounts = self._intervals[number] = defaultdict(Account)
        if self._options.interval:
            # A task, since timers due at the same moment come one by one, and the first must not close the accounts.
            left = (number + 1) * self._options.interval - time
            task = asyncio.get_running_loop().create_task(self._close_later(number + 1, left))
            self._closing.add(task)
            task.add_done_callback(self._closed)
        return accounts

    def _closed(self, task: "asyncio.Task[None]") -> None:
        self._closing.discard(task)
        if not task.cancelled() and not isinstance(error := task.exception(), OutputError | None):
            get_logger("account").error("interval_failed", exc_info=error)  # of a lost output the run tells

    async def _close_later(self, number: int, seconds: float) -> None:
        await aiomos.sleep(seconds)
        self._close_before(number)

    def _close_before(self, number: int | None) -> None:
        """Write the accounts of all intervals before one; of all with None."""
        for closed in sorted(self._intervals):
            if number is None or closed < number:
                interval = self._options.interval
                start = closed * interval if interval else None
                for parties, account in sorted(self._intervals.pop(closed).items()):
                    self._ledger.enter(start, parties, account)
        self._ledger.flush()


# --- where accounts go --------------------------------------------------------------------------------


class Records:
    """JSON Lines or CSV: a record for each account."""

    def __init__(self, options: Options) -> None:
        self._interval = options.interval
        self._names_server = options.server != "none"
        self._output = Output(options.path)
        form = Csv if options.format == "csv" else JsonLines
        self._writer: Writer = form(self._output.file)

    def enter(self, start: float | None, parties: Parties, account: Account) -> None:
        """Write an account down."""
        subscriber, server = parties
        self._writer.write(
            {
                **({} if start is None else {"start": start, "end": start + self._interval}),
                "subscriber": subscriber,
                **({"server": server} if self._names_server else {}),
                "connections": account.connections,
                **dict(zip(FIGURES, account.figures, strict=True)),
            }
        )

    def begun(self, parties: Parties) -> None:
        """Accounts say how many connections there were."""

    def flush(self) -> None:
        """Have what was entered be seen by who reads along."""
        self._output.file.flush()

    def close(self) -> None:
        """Write what is left."""
        try:
            self._writer.finish()
        finally:
            self._output.close()


class Metrics:
    """Counters of Prometheus, which grow when an interval is over."""

    def __init__(self, limit: int) -> None:
        from prometheus_client import Counter

        self._limit = limit
        self._named: set[Parties] = set()
        labels = ("subscriber", "server")
        ways = (*labels, "direction")
        self._connections = Counter("aiomos_account_connections", "Connections that have begun.", labels)
        self._packets = Counter(
            "aiomos_account_packets", "TCP segments, up from the subscriber or down.", ways
        )
        self._bytes = Counter("aiomos_account_bytes", "Payload bytes, up from the subscriber or down.", ways)
        undone_on_failure(self.close)

    def enter(self, start: float | None, parties: Parties, account: Account) -> None:  # noqa: ARG002
        """Add an account to the counters."""
        parties = self._with_name(parties)
        up_packets, up_bytes, down_packets, down_bytes = account.figures
        self._packets.labels(*parties, "up").inc(up_packets)
        self._packets.labels(*parties, "down").inc(down_packets)
        self._bytes.labels(*parties, "up").inc(up_bytes)
        self._bytes.labels(*parties, "down").inc(down_bytes)

    def begun(self, parties: Parties) -> None:
        """Count a connection, once however many intervals it lasts."""
        self._connections.labels(*self._with_name(parties)).inc()

    def _with_name(self, parties: Parties) -> Parties:
        """Return who is counted by name: labels stay for the run, so no more than so many are."""
        if parties not in self._named:
            if len(self._named) >= self._limit:
                return OTHERS
            self._named.add(parties)
        return parties

    def flush(self) -> None:
        """Counters are seen at once."""

    def close(self) -> None:
        """Take the counters back."""
        from prometheus_client import REGISTRY

        for counter in (self._connections, self._packets, self._bytes):
            REGISTRY.unregister(counter)


def open_ledger(options: Options) -> Ledger:
    """Open what the options ask for.

    Raises:
        OptionError: counters are asked for without an interval.
    """
    if options.format != "prometheus":
        return Records(options)
    if not options.interval:
        raise OptionError("format=prometheus needs an interval: the counters grow when one is over")
    return Metrics(options.limit)


_running: list[tuple[Accounting, list[CallbackRegistration]]] = []


@app.startup
def open_accounts() -> None:
    """Open the output, and register for the connections the options choose."""
    accounting = Accounting(app.options, open_ledger(app.options))
    _running.append((accounting, accounting.register()))


@app.shutdown
def close_accounts() -> None:
    """Write what is left and close the output."""
    while _running:
        accounting, registrations = _running.pop()
        for registration in registrations:
            registration.cancel()
        accounting.close()
