from collections.abc import Iterator

from aiomos.engine.core import Core
from aiomos.face.views import Flow

def open_flows(core: Core) -> Iterator[Flow]: ...
