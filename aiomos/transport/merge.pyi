from collections.abc import Sequence
from typing import Self

from aiomos.transport.source import FrameSource

class MergedSource(FrameSource):
    def __new__(cls, sources: Sequence[FrameSource]) -> Self: ...
