"""aiomos: network middleboxes in async Python, on one programmable TCP stack."""

import importlib as _importlib
import typing as _typing

from aiomos.app import App, CallbackRegistration, MonitorRegistration, TrackRegistration
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
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.tcp.levels import Level
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
    from aiomos.listeners import Listener
    from aiomos.running import run, serve
    from aiomos.runtime import Report, Runtime, sleep
    from aiomos.tcp.chunks import Chunk, Gap
    from aiomos.tcp.packets import Packet
    from aiomos.tcp.streams import MonitorConnection, Stream
    from aiomos.tcp.translation import Session, SessionShare
    from aiomos.tcp.views import Flow, Half, State
    from aiomos.transport.transport import Transport

__version__ = "0.1.0"

# Loaded when first asked for: the command line answers --help and --version without them.
_LAZY = {
    "Listener": "aiomos.listeners",
    **dict.fromkeys(("run", "serve"), "aiomos.running"),
    **dict.fromkeys(("Report", "Runtime", "sleep"), "aiomos.runtime"),
    **dict.fromkeys(("Chunk", "Gap"), "aiomos.tcp.chunks"),
    **dict.fromkeys(("MonitorConnection", "Stream"), "aiomos.tcp.streams"),
    "Packet": "aiomos.tcp.packets",
    **dict.fromkeys(("Session", "SessionShare"), "aiomos.tcp.translation"),
    "Transport": "aiomos.transport.transport",
    **dict.fromkeys(("Flow", "Half", "State"), "aiomos.tcp.views"),
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
