"""Where the records of an app go: a file, or standard output."""

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from aiomos.outputs import Draw, PartT, open_output, write_summary

if TYPE_CHECKING:
    from aiomos import Flow


class Output:
    """JSON Lines or tables in a file that is closed at the end, or on standard output, which is left open.

    Attributes:
        file: Where to write.
    """

    def __init__(self, path: Path | None) -> None:
        self.file: IO[bytes] = open_output(path)

    def write(self, record: dict[str, Any]) -> None:
        """Add a record as one JSON object a line."""
        self.file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def summarise(self, part: PartT, draw: Draw[PartT]) -> None:
        """Write what there is to say at the end; with workers, of all of them together: see `write_summary`."""
        write_summary(self.file, part, draw)

    def close(self) -> None:
        """Write what is left."""
        self.file.close()


def endpoint(address: str, port: int) -> str:
    """Write down an end of a connection as RFC 3986 does."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def ends_of(flow: "Flow") -> dict[str, Any]:
    """Write down both ends of a connection as `Flow.record` does."""
    return dict(zip(("client", "client_port", "server", "server_port"), flow.key, strict=True))


def share(part: int, whole: int) -> float:
    """Tell which share of a whole a part is; of nothing, none."""
    return round(part / whole, 6) if whole else 0.0


def is_interval(seconds: float) -> bool:
    """Can a timer be set by it, and times be counted in it? 0 is none."""
    return seconds == 0 or 1e-6 <= seconds <= 1e8
