"""aiomos: network middleboxes in async Python, on one programmable TCP stack."""

from aiomos.app import App, CallbackRegistration, MonitorRegistration
from aiomos.errors import (
    AiomosError,
    AppLoadError,
    CaptureError,
    ConnectionEvicted,
    ConnectionReset,
    ConnectionTimedOut,
    EndOfCapture,
    EngineBug,
    FilterSyntaxError,
    FlowClosed,
    OptionError,
    RegistrationError,
    StalePacketError,
    StreamGap,
)
from aiomos.settings import Budgets, Settings, Timeouts
from aiomos.tcp.levels import Level
from aiomos.ude.events import CONN_SETUP, CONN_TEARDOWN, Event
from aiomos.ude.filters import Filter

__version__ = "0.1.0"

__all__ = [
    "CONN_SETUP",
    "CONN_TEARDOWN",
    "AiomosError",
    "App",
    "AppLoadError",
    "Budgets",
    "CallbackRegistration",
    "CaptureError",
    "ConnectionEvicted",
    "ConnectionReset",
    "ConnectionTimedOut",
    "EndOfCapture",
    "EngineBug",
    "Event",
    "Filter",
    "FilterSyntaxError",
    "FlowClosed",
    "Level",
    "MonitorRegistration",
    "OptionError",
    "RegistrationError",
    "Settings",
    "StalePacketError",
    "StreamGap",
    "Timeouts",
    "__version__",
]
