"""aiomos: network middleboxes in async Python, on one programmable TCP stack."""

import importlib as _importlib
import typing as _typing

from aiomos.app import App
from aiomos.errors import (
    AiomosError,
    AppLoadError,
    CaptureError,
    ConnectionEvicted,
    ConnectionReset,
    ConnectionTimedOut,
    ControlError,
    EngineBug,
    FilterSyntaxError,
    FlowClosed,
    NotInLineError,
    OptionError,
    OutputError,
    RegistrationError,
    SessionError,
    StalePacketError,
    StreamGap,
    TransportError,
    WorkerError,
)
from aiomos.levels import Level
from aiomos.registrations import CallbackRegistration, MonitorRegistration, TrackRegistration
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.ude.events import (
    CONN_NEW_DATA,
    CONN_SETUP,
    CONN_START,
    CONN_TEARDOWN,
    ERROR,
    FRAME,
    ORPHAN,
    PKT_IN,
    PKT_OUT,
    REXMIT,
    STATE_CHANGE,
    TIMEOUT,
    ErrorKind,
    Event,
    Hook,
    Occurrence,
    RexmitKind,
)
from aiomos.ude.filters import Filter
from aiomos.ude.networks import Network
from aiomos.ude.user import UserEvent

if _typing.TYPE_CHECKING:
    from aiomos.console.running import run, serve
    from aiomos.face.chunks import Chunk, Gap
    from aiomos.face.packets import Packet
    from aiomos.face.streams import MonitorConnection, Stream
    from aiomos.face.views import Flow, Half, State
    from aiomos.line.translation import Session, SessionShare
    from aiomos.runtime.clock import sleep
    from aiomos.runtime.listeners import Listener
    from aiomos.runtime.runtime import Runtime
    from aiomos.runtime.statistics import Report
    from aiomos.transport.transport import Transport

__version__ = "0.1.0"

# Loaded when first asked for: the command line answers --help and --version without them.
_LAZY = {
    "Listener": "aiomos.runtime.listeners",
    **dict.fromkeys(("run", "serve"), "aiomos.console.running"),
    "Report": "aiomos.runtime.statistics",
    "Runtime": "aiomos.runtime.runtime",
    "sleep": "aiomos.runtime.clock",
    **dict.fromkeys(("Chunk", "Gap"), "aiomos.face.chunks"),
    **dict.fromkeys(("MonitorConnection", "Stream"), "aiomos.face.streams"),
    "Packet": "aiomos.face.packets",
    **dict.fromkeys(("Session", "SessionShare"), "aiomos.line.translation"),
    "Transport": "aiomos.transport.transport",
    **dict.fromkeys(("Flow", "Half", "State"), "aiomos.face.views"),
}


def __getattr__(name: str) -> _typing.Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'aiomos' has no attribute {name!r}")
    value = globals()[name] = getattr(_importlib.import_module(_LAZY[name]), name)
    return value


__all__ = [
    "CONN_NEW_DATA",
    "CONN_SETUP",
    "CONN_START",
    "CONN_TEARDOWN",
    "ERROR",
    "FRAME",
    "ORPHAN",
    "PKT_IN",
    "PKT_OUT",
    "REXMIT",
    "STATE_CHANGE",
    "TIMEOUT",
    "AiomosError",
    "App",
    "AppLoadError",
    "Budgets",
    "CallbackRegistration",
    "CaptureError",
    "Chunk",
    "ConnectionEvicted",
    "ConnectionReset",
    "ConnectionTimedOut",
    "ControlError",
    "EngineBug",
    "ErrorKind",
    "Event",
    "Filter",
    "FilterSyntaxError",
    "Flow",
    "FlowClosed",
    "Gap",
    "Half",
    "Hook",
    "Level",
    "Listener",
    "MonitorConnection",
    "MonitorRegistration",
    "Network",
    "NotInLineError",
    "Occurrence",
    "OptionError",
    "OutputError",
    "Packet",
    "RegistrationError",
    "Report",
    "RexmitKind",
    "Runtime",
    "Session",
    "SessionError",
    "SessionShare",
    "Settings",
    "StalePacketError",
    "State",
    "Stream",
    "StreamGap",
    "Timeouts",
    "TrackRegistration",
    "Transport",
    "TransportError",
    "UserEvent",
    "WorkerError",
    "__version__",
    "run",
    "serve",
    "sleep",
]
