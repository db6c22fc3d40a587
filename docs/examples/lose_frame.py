"""Copy a capture without some of its frames: python lose_frame.py IN OUT NUMBER..."""

import sys

from aiomos.transport.captures import open_captures
from aiomos.transport.writer import CaptureWriter

source, target, *numbers = sys.argv[1:]
lost = {int(number) for number in numbers}
with open_captures([source]) as frames, CaptureWriter(target) as writer:
    for number, (time_ns, data, _linktype, wirelen) in enumerate(frames, start=1):
        if number not in lost:
            writer.write(time_ns, data, wirelen)
