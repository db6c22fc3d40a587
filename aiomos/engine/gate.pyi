from typing import final

from aiomos.face.views import Flow
from aiomos.ude.user import UserEvent

@final
class Gate:
    def emit(self, event: UserEvent, view: Flow) -> None: ...
