"""The events that TCP processing raises of its own accord."""

from enum import Enum


class Event(Enum):
    """A built-in event; its value is its name.

    Each says when exactly it is raised, how often, before or after what, what suppresses it, and from which
    level on it exists.
    """

    CONN_SETUP = "conn_setup"
    """The three-way handshake is complete: the server has the client's acknowledgement of its SYN.

    Raised once a flow, after both ends' states are up to date and before any payload of the same packet is
    delivered. Never raised for a flow picked up in mid-stream, nor for a handshake that fails. From
    `Level.STATE` on.
    """

    CONN_TEARDOWN = "conn_teardown"
    """The flow has ended: both FINs acknowledged, reset, timed out, evicted, or out of frames.

    Raised once for every flow the app's filter picked, whether or not `CONN_SETUP` was; last of the flow's
    events. ``flow.reason`` says which end it was. From `Level.STATE` on.
    """


CONN_SETUP = Event.CONN_SETUP
CONN_TEARDOWN = Event.CONN_TEARDOWN
