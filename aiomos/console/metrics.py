"""Metrics for Prometheus: what is scraped, by which names, and the HTTP server that answers.

Values are read when a scrape asks for them, on the thread of the event loop, so an idle run pays nothing and no
counter is kept twice. What an app counts by the prometheus-client library itself appears beside them.
"""

import asyncio
import platform
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING

import attrs
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector

from aiomos.console.wsgi_server import WsgiServer
from aiomos.errors import OptionError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from aiomos.console.snapshot import Snapshot

SCRAPE_SECONDS = 5.0
"""How long a scrape waits for the event loop; Prometheus itself gives up after 10 unless told otherwise."""

Read = Callable[[], Awaitable[Sequence["Snapshot"]]]
"""Looks at every worker; called in the event loop."""

# --- names ----------------------------------------------------------------------------------------


@attrs.frozen
class Source:
    """Where a metric's values come from.

    Attributes:
        pattern: Names of counters; what is in parentheses are the values of the labels.
        labels: Their names, between commas.
        renamed: Values of the only label that are not what is in parentheses, by counter.
    """

    pattern: str
    labels: str = ""
    renamed: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Definition:
    """One metric.

    Attributes:
        name: Behind ``aiomos_``; counters get ``_total`` from the library.
        help: What it counts.
        source: Its counters.
        gauge: Whether it says how much there is now.
    """

    name: str
    help: str
    source: Source
    gauge: bool = False


COUNTERS = (
    Definition("frames", "Frames given to the engine.", Source("frames")),
    Definition("frame_bytes", "Bytes of live frames, as they were on the wire.", Source(r"transport\.bytes")),
    Definition(
        "packets",
        "Packets and frames by what they are.",
        Source("(tcp|udp|icmp|ip_other|fragments|non_ip|unknown_link|aggregates)", "kind"),
    ),
    Definition(
        "malformed", "Frames that could not be read, by what was wrong.", Source(r"malformed\.(.+)", "kind")
    ),
    Definition(
        "unread",
        "Frames of link types, tags and protocols that are not read, by what these are.",
        Source(r"unread\.(\w+)\.(\w+)", "layer,name"),
    ),
    Definition("unread_other", "Frames of more of these than are told apart.", Source("unread_other")),
    Definition(
        "drops",
        "Frames that came and went no further, or that the kernel did not hand over, by cause.",
        Source(
            r"transport\.(\w*drop\w*|unsent_\w+)|in_line\.(dropped|no_room)",
            "cause",
            {"transport.dropped": "kernel", "in_line.dropped": "verdict"},
        ),
    ),
    Definition("forwarded_bytes", "Bytes of frames forwarded in line.", Source(r"in_line\.forwarded_bytes")),
    Definition(
        "sent_frames",
        "Frames forwarded in line, and made here.",
        Source(r"in_line\.(forwarded|originated)", "kind"),
    ),
    Definition("in_line", "What else was done to frames in line.", Source(r"in_line\.(.+)", "event")),
    Definition(
        "interface",
        "What the transport counts, drops among it, of each of several interfaces.",
        Source(r"transport\.(.+)\.(\w+)", "interface,event"),
    ),
    Definition("transport", "What the transport counts besides drops.", Source(r"transport\.(.+)", "event")),
    Definition("flows_seen", "Flows that apps were told of.", Source("flows")),
    Definition("flows_midstream", "Flows picked up without their SYN.", Source("midstream")),
    Definition("flows_ended", "Flows that have ended, by what ended them.", Source(r"ended\.(.+)", "reason")),
    Definition(
        "flows_given_up",
        "Flows ended or let go for room.",
        Source("(evicted|released_early|no_memory)", "reason"),
    ),
    Definition("orphan_segments", "Segments of no known flow that made none.", Source("orphans")),
    Definition(
        "segments_without_syn",
        "Of the orphan segments, those of connections whose SYN was not captured.",
        Source("without_syn"),
    ),
    Definition("unwatched_syns", "SYNs that no filter picked.", Source("unwatched")),
    Definition(
        "watch_sets_full", "Flows that found no room for a set of watchers.", Source("watch_sets_full")
    ),
    Definition("conflicts", "Segments whose bytes differ from those held.", Source("conflicts")),
    Definition(
        "anomalies", "Segments not believed, and other oddities, by kind.", Source(r"anomaly\.(.+)", "kind")
    ),
    Definition("gaps", "Gaps in streams, by reason.", Source(r"gap\.(.+)", "reason")),
    Definition("gap_bytes", "Bytes missing in those gaps.", Source(r"gap_bytes\.(.+)", "reason")),
    Definition("unconfirmed", "Segments around a handshake that nothing confirmed.", Source("unconfirmed")),
    Definition("unconfirmed_bytes", "Bytes of those.", Source("unconfirmed_bytes")),
    Definition("wild_times", "Frames whose time was not believed.", Source("wild_times")),
    Definition("copies", "Segments that were captured more than once.", Source("copies")),
    Definition(
        "held_dropped", "How often a half went on without what is missing, for room.", Source("held_dropped")
    ),
    Definition("kept_dropped", "How often a half gave up its kept bytes.", Source("kept_dropped")),
    Definition(
        "defragmentation",
        "What happened to IP fragments and the packets made of them.",
        Source(r"defrag\.((?!held_).+)", "event"),
    ),
    Definition("handler_errors", "Handlers ended by an exception of their own.", Source("handler_errors")),
    Definition("callback_errors", "Exceptions of callbacks.", Source("callback_errors")),
    Definition(
        "handlers_ended",
        "Handlers that let a stream error through.",
        Source(r"handlers_ended\.(.+)", "reason"),
    ),
    Definition("records", "Records of the engine in use.", Source(r"held\.(.+)", "kind"), gauge=True),
    Definition(
        "defragmentation_datagrams",
        "Datagrams being put together.",
        Source(r"defrag\.held_datagrams"),
        gauge=True,
    ),
)
"""In order: a counter belongs to the first whose pattern it fits."""

SHOWN_OTHERWISE = frozenset(
    ("open", "half_open", "closed", "held_bytes", "kept_bytes", "unread_bytes", "defrag.held_bytes")
)
"""Counters behind the metrics of flows and memory."""

OTHER = Definition("other", "Counters that have no metric of their own.", Source("(.+)", "counter"))

MEMORY = {
    "held_bytes": "held",
    "kept_bytes": "kept",
    "stream_bytes_total": "unread",
    "fragment_bytes": "fragments",
}
"""Budgets of memory, and what the label ``use`` calls them."""

TABLE = {"flows": "all", "half_open": "half_open"}
"""Budgets of flows, and what the label ``state`` calls them."""

APP_FIGURES = {
    "callbacks": Definition("app_callbacks", "Callbacks called.", Source("callbacks")),
    "callback_seconds": Definition(
        "app_callback_seconds",
        "Time spent in callbacks, estimated from one in 64.",
        Source("callback_seconds"),
    ),
    "handler_seconds": Definition(
        "app_handler_seconds", "Time spent in handlers, estimated from one in 64.", Source("handler_seconds")
    ),
    "bytes": Definition("app_stream_bytes", "Bytes handed to its streams.", Source("bytes")),
    "errors": Definition("app_errors", "Exceptions raised.", Source("errors")),
    "gap_bytes": Definition("app_unread_bytes", "Bytes it did not read in time.", Source("gap_bytes")),
    "flows": Definition("app_flows", "Flows it watches.", Source("flows"), gauge=True),
    "handlers": Definition("app_handlers", "Handlers running.", Source("handlers"), gauge=True),
}


def families(snapshots: Iterable["Snapshot"]) -> list[Metric]:
    """Write down what is known of each worker as metrics of the library."""
    made: dict[str, Metric] = {}

    def add(definition: Definition, value: float, **labels: str) -> None:
        if definition.name not in made:
            kind = GaugeMetricFamily if definition.gauge else CounterMetricFamily
            made[definition.name] = kind(f"aiomos_{definition.name}", definition.help, labels=list(labels))
        made[definition.name].add_metric(list(labels.values()), value)  # type: ignore[attr-defined]

    add(
        gauge("build_info", "The versions that run."), 1, version=_version(), python=platform.python_version()
    )
    for snapshot in snapshots:
        note = partial(add, worker=str(snapshot.worker))
        note(gauge("worker_up", "Whether the worker answers."), snapshot.up)
        note(Definition("worker_restarts", "How often it was restarted.", Source("")), snapshot.restarts)
        if snapshot.up:
            _write_counters(snapshot, note)
            _write_state(snapshot, note)
            _write_apps(snapshot, note)
    return list(made.values())


def gauge(name: str, text: str) -> Definition:
    """Define a metric that says how much there is now."""
    return Definition(name, text, Source(""), gauge=True)


def _write_counters(snapshot: "Snapshot", note: Callable[..., None]) -> None:
    for name, value in snapshot.counters.items():
        if name not in SHOWN_OTHERWISE:
            definition, labels = place(name)
            note(definition, value, **labels)


def place(counter: str) -> tuple[Definition, dict[str, str]]:
    """Find the metric that a counter belongs to, and its labels there."""
    for definition in (*COUNTERS, OTHER):
        source = definition.source
        if found := re.fullmatch(source.pattern, counter):
            labels = source.labels.split(",") if source.labels else []
            values = [source.renamed[counter]] if counter in source.renamed else filter(None, found.groups())
            return definition, dict(zip(labels, values, strict=True))
    raise AssertionError(counter)  # OTHER takes any


def _write_state(snapshot: "Snapshot", note: Callable[..., None]) -> None:
    for state, count in snapshot.flows.items():
        note(gauge("flows", "Flows in the table, by the state of their connection."), count, state=state)
    for budget, (used, limit) in snapshot.used.items():
        if budget in TABLE:
            note(gauge("flows_limit", "Budgets of flows."), limit, state=TABLE[budget])
        else:
            note(gauge("memory_bytes", "Memory in use, by what for."), used, use=MEMORY[budget])
            note(gauge("memory_limit_bytes", "The budgets of that memory."), limit, use=MEMORY[budget])


def _write_apps(snapshot: "Snapshot", note: Callable[..., None]) -> None:
    for app, figures in snapshot.apps.items():
        for name, value in figures.items():
            if name in APP_FIGURES:
                note(APP_FIGURES[name], value, app=app)


def _version() -> str:
    from aiomos import __version__

    return __version__


# --- the server -----------------------------------------------------------------------------------


class ScrapeError(Exception):
    """The values could not be read; whoever scrapes is told so."""


class Exporter:
    """Answer scrapes at an address, from when it is made until `close`.

    Args:
        address: ``HOST:PORT``, or ``:PORT`` for all addresses of this host, as other exporters have it; IPv6 as
            ``[::1]:9187``. Any path is answered.
        directory: Where other processes leave what their apps count (``PROMETHEUS_MULTIPROC_DIR``); without, what the
            apps of this process count is shown.

    Raises:
        OptionError: the address is none.
        OSError: it cannot be had; the message names it.
    """

    def __init__(self, address: str, *, directory: str | None = None) -> None:
        host, port = parse_address(address)
        self._registry = REGISTRY
        if directory is not None:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry, path=directory)  # type: ignore[no-untyped-call]
        self._read: Read | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: set[Future[Sequence[Snapshot]]] = set()
        try:
            listener = listen(host, port)
        except OSError as error:
            reason = f"{error.strerror or error}; choose another --metrics address, or end what listens there"
            raise OSError(error.errno, reason, address) from error
        self._port = int(listener.getsockname()[1])
        self._registry.register(self)
        self._server = WsgiServer(listener, _refusing(make_wsgi_app(self._registry)))

    @property
    def port(self) -> int:
        """The port it listens at, also where 0 was asked for."""
        return self._port

    def read_from(self, read: Read) -> None:
        """Answer with what *read* gives, which is called in the running event loop, from now on."""
        self._read, self._loop = read, asyncio.get_running_loop()

    def close(self) -> None:
        """Let go of the port; scrapes that run are answered with an error."""
        self._read = self._loop = None
        for future in [*self._asked]:
            future.cancel()
        self._server.close()
        self._registry.unregister(self)

    def __enter__(self) -> "Exporter":
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def describe(self) -> Iterator[Metric]:
        """Name no metrics beforehand: there may be no event loop yet."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Read the values; called by the library, in a thread of the server.

        Raises:
            ScrapeError: the event loop does not answer.
        """
        read, loop = self._read, self._loop
        if read is None or loop is None:
            raise ScrapeError("the run has not begun, or has ended")
        future = asyncio.run_coroutine_threadsafe(_awaited(read), loop)
        self._asked.add(future)
        if self._read is None:  # closed since, before this was there to be cancelled
            future.cancel()
        try:
            snapshots = future.result(SCRAPE_SECONDS)
        except CancelledError:
            raise ScrapeError("the run has ended") from None
        except TimeoutError:
            future.cancel()
            raise ScrapeError(
                f"the event loop has not answered within {SCRAPE_SECONDS:g} s: a callback or handler holds it up"
            ) from None
        finally:
            self._asked.discard(future)
        yield from families(snapshots)


async def _awaited(read: Read) -> Sequence["Snapshot"]:
    return await read()


def _refusing(app: "WSGIApplication") -> "WSGIApplication":
    """Answer a scrape that fails with its reason, where the library's server would print a traceback."""

    def answer(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        try:
            return app(environ, start_response)
        except ScrapeError as error:
            start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{error}\n".encode()]

    return answer


def listen(host: str, port: int) -> socket.socket:
    """Listen at an address of this host; at all of them, with ``::``, by either version of IP."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(
        address[:2], family=family, dualstack_ipv6=family is socket.AF_INET6 and host == "::"
    )


def parse_address(address: str) -> tuple[str, int]:
    """Read ``HOST:PORT``; without a host it means all addresses.

    Raises:
        OptionError: it is none.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 0xFFFF:
        raise OptionError(
            f"{address!r} is no address for metrics; write HOST:PORT, such as 127.0.0.1:9187, or :9187"
        )
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"
    return host.removeprefix("[").removesuffix("]") or everywhere, int(port)
