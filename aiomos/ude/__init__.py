"""Events: built-in, user-defined, and the stock of them; connection filters; what runs both.

``from aiomos.ude import ude, event`` defines events for more than one app; ``from aiomos.ude import HTTP, SYN`` takes
one that ships with aiomos, see `aiomos.ude.stock`.
"""

import importlib as _importlib
import typing as _typing

if _typing.TYPE_CHECKING:
    from aiomos.ude.networks import Network
    from aiomos.ude.stock import (
        BITTORRENT,
        FIN,
        FTP,
        HTTP,
        HTTP_REQUEST,
        IMAP,
        MQTT,
        POP3,
        REXMIT,
        RST,
        SMB,
        SMTP,
        SSH,
        SYN,
        SYNACK,
        TLS,
        ZERO_WINDOW,
    )
    from aiomos.ude.user import UserEvent, event, ude

__all__ = [
    "BITTORRENT",
    "FIN",
    "FTP",
    "HTTP",
    "HTTP_REQUEST",
    "IMAP",
    "MQTT",
    "POP3",
    "REXMIT",
    "RST",
    "SMB",
    "SMTP",
    "SSH",
    "SYN",
    "SYNACK",
    "TLS",
    "ZERO_WINDOW",
    "Network",
    "UserEvent",
    "event",
    "ude",
]


_ELSEWHERE = {"Network": "networks", "UserEvent": "user", "event": "user", "ude": "user"}


def __getattr__(name: str) -> _typing.Any:
    # The engine needs parts of this package that the stock is built upon.
    if name not in __all__:
        raise AttributeError(f"module 'aiomos.ude' has no attribute {name!r}")
    module = _ELSEWHERE.get(name, "stock")
    value = globals()[name] = getattr(_importlib.import_module(f"aiomos.ude.{module}"), name)
    return value
