from collections.abc import Iterable, Sequence

from typing_extensions import Buffer

from aiomos.line.paths import Paths
from aiomos.settings import Settings

class Verdicts(Paths):
    def __new__(cls, settings: Settings, key: Buffer) -> Verdicts: ...
    def open(self, forwards: Sequence[int | None], interfaces: Iterable[str], flows: int) -> None: ...
