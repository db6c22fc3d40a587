from collections.abc import Sequence

from aiomos.transport.source import FrameSource

class MergedSource(FrameSource):
    def __init__(self, sources: Sequence[FrameSource]) -> None: ...
