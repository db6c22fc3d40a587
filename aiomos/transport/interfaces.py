"""What a capture says about the interface its frames were taken from."""

import attrs

MAX_INTERFACES = 1 << 16
"""A frame holds the index of its interface in 16 bits."""


@attrs.frozen
class Interface:
    """One interface of a capture; a frame refers to it by its place in `FrameSource.interfaces`.

    Attributes:
        path: The capture it belongs to; ``-`` for standard input.
        name: Its name where the capture tells it, else empty.
        linktype: LINKTYPE_ number of its frames.
        snaplen: Bytes kept of each frame at most; 0 for no limit.
    """

    path: str
    name: str
    linktype: int
    snaplen: int
