"""What has been found so far, in bounded memory, and the forms in which it is written."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, Any, Literal, NamedTuple, Protocol

import attrs
import orjson

from aiomos.console.terminal import Layout, print_table
from aiomos.outputs import write_summary

Kind = Literal["os", "service", "client"]
Confidence = Literal["high", "medium", "low", "none"]
Place = tuple[str, Kind, int | None]
Identity = tuple[str | None, ...]

VARIANTS = 32
"""What one place (a port of a host, say) is found to be at most: a scanner may look different each time."""

CELL = 60
"""Characters of one product in the table."""


class Finding(NamedTuple):
    """What one observation says of a host.

    Attributes:
        name: The operating system, or the protocol of a service or client.
        product: The program.
        version: Of the program, or of the system.
        detail: What else it says of itself; for TLS, the name it was asked for.
        confidence: How sure that is.
        evidence: The fingerprint of a system; it does not make one finding different from another.
    """

    name: str
    product: str | None = None
    version: str | None = None
    detail: str | None = None
    confidence: Confidence = "high"
    evidence: str | None = None

    @property
    def identity(self) -> Identity:
        """What tells it from other findings."""
        return self[:5]

    def __str__(self) -> str:
        words = " ".join(filter(None, (self.name, self.product, self.version)))
        return f"{words} ({self.detail})" if self.detail else words


@attrs.define
class Asset:
    """A finding at its place, and when it was made.

    Attributes:
        address: The host.
        kind: What was found.
        port: Of a service.
        finding: What it was found to be.
        distance: Hops to it, by its TTL.
        first: Time of the first observation, seconds since the epoch.
        last: Time of the latest.
        seen: How many observations there were.
        midstream: Whether all of them were in connections whose SYN was not captured.
    """

    address: str
    kind: Kind
    port: int | None
    finding: Finding
    distance: int | None
    first: float
    last: float
    seen: int = 1
    midstream: bool = False

    def record(self, event: str, was: Finding | None = None) -> dict[str, Any]:
        """Write it as a flat dict."""
        record: dict[str, Any] = {
            "event": event,
            "address": self.address,
            "kind": self.kind,
            "port": self.port,
        }
        record |= self.finding._asdict()
        record |= {"distance": self.distance, "first": self.first, "last": self.last, "seen": self.seen}
        record["midstream"] = self.midstream
        return record | {"was": str(was)} if was is not None else record


class Writer(Protocol):
    """A form of the results."""

    def write(self, record: dict[str, Any]) -> None:
        """Tell of a new or changed asset."""

    def finish(self, inventory: "Inventory") -> None:
        """Tell of all there is at the end."""


class JsonLines:
    """One JSON object a line: each new and changed asset when it is found, and each once more at the end."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def write(self, record: dict[str, Any]) -> None:
        """Tell of a new or changed asset."""
        self._output.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def finish(self, inventory: "Inventory") -> None:
        """Tell of all there is at the end."""
        write_summary(self._output, list(inventory), write_assets)


class Table:
    """A table of hosts for people, at the end."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output

    def write(self, record: dict[str, Any]) -> None:
        """Nothing is told before the end."""

    def finish(self, inventory: "Inventory") -> None:
        """Draw the table."""
        write_summary(self._output, list(inventory), draw_hosts)


def write_assets(parts: Sequence[list[Asset]], output: IO[bytes]) -> None:
    """Write what all workers have found."""
    for asset in merged(parts):
        output.write(orjson.dumps(asset.record("end"), option=orjson.OPT_APPEND_NEWLINE))


def draw_hosts(parts: Sequence[list[Asset]], output: IO[bytes]) -> None:
    """Draw a table of the hosts that any worker has found something of."""
    assets = merged(parts)
    hosts: dict[str, list[Asset]] = {}
    for asset in sorted(assets, key=lambda asset: asset.port or 0):
        hosts.setdefault(asset.address, []).append(asset)
    rows = list(map(_row, hosts.values()))
    title = f"{len(rows)} hosts, {len(assets)} assets"
    headings = ("host", "hops", "system", "services", "clients", "first seen", "last seen")
    print_table(title, headings, rows, file=output, layout=Layout(spare=["last seen", "first seen", "hops"]))


def merged(parts: Sequence[list[Asset]]) -> list[Asset]:
    """Make one of what several workers have found to be the same, in the order in which places were first seen."""
    places: dict[Place, dict[Identity, Asset]] = {}
    for asset in sorted((asset for part in parts for asset in part), key=lambda asset: asset.first):
        place = places.setdefault((asset.address, asset.kind, asset.port), {})
        known = place.get(asset.finding.identity)
        place[asset.finding.identity] = (
            asset
            if known is None
            else attrs.evolve(
                known,
                last=max(known.last, asset.last),
                seen=known.seen + asset.seen,
                midstream=known.midstream and asset.midstream,
            )
        )
    return [asset for place in places.values() for asset in place.values()]


def _row(assets: list[Asset]) -> tuple[str, ...]:
    systems = sorted((a for a in assets if a.kind == "os"), key=_weight, reverse=True)
    distances = {asset.distance for asset in systems if asset.distance is not None}
    return (
        assets[0].address,
        str(min(distances)) if distances else "",
        _short(systems[0].finding) if systems and systems[0].finding.confidence != "none" else "",
        "\n".join(f"{a.port} {_short(a.finding)}" for a in assets if a.kind == "service"),
        "\n".join(_short(a.finding) for a in assets if a.kind == "client"),
        _moment(min(asset.first for asset in assets)),
        _moment(max(asset.last for asset in assets)),
    )


def _weight(asset: Asset) -> tuple[int, int]:
    """The surer the better, then the more often."""
    return ("none", "low", "medium", "high").index(asset.finding.confidence), asset.seen


def _short(finding: Finding) -> str:
    words = str(finding)
    return words if len(words) <= CELL else f"{words[: CELL - 1]}…"


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


class Inventory:
    """All assets, no more than *limit*; what is beyond is counted.

    Attributes:
        left_out: Observations of assets for which there was no room.
    """

    def __init__(self, limit: int, writer: Writer) -> None:
        self._limit = limit
        self._writer = writer
        self._places: dict[Place, dict[Identity, Asset]] = {}
        self._count = 0
        self.left_out = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Asset]:
        for place in self._places.values():
            yield from place.values()

    def knows(self, address: str, kind: Kind, port: int | None) -> bool:
        """Whether anything was found at a place."""
        return (address, kind, port) in self._places

    def see(
        self,
        time: float,
        address: str,
        kind: Kind,
        port: int | None,
        finding: Finding,
        distance: int | None = None,
        *,
        midstream: bool = False,
    ) -> None:
        """Note an observation; of one that is new, or other than the last there, a record is written."""
        place = self._places.get((address, kind, port), {})
        asset = place.get(finding.identity)
        if asset is not None:
            asset.last, asset.seen = time, asset.seen + 1
            asset.midstream = asset.midstream and midstream
            return
        if self._count >= self._limit or len(place) >= VARIANTS:
            self.left_out += 1
            return
        was = max(place.values(), key=lambda other: other.last).finding if place else None
        asset = Asset(address, kind, port, finding, distance, time, time, midstream=midstream)
        place[finding.identity] = asset
        self._places[address, kind, port] = place
        self._count += 1
        self._writer.write(asset.record("new" if was is None else "changed", was))
