"""Write a capture of one connection with a long answer: python long_answer.py OUT BYTES."""

import sys

from aiomos.testing.scenario import Conversation
from aiomos.transport.writer import CaptureWriter

SEGMENT = 1460
target, size = sys.argv[1], int(sys.argv[2])
talk = Conversation().handshake().client("PA", b"GET / HTTP/1.0\r\n\r\n")
for sent in range(0, size, SEGMENT):
    talk.server("A", bytes(min(SEGMENT, size - sent))).client("A")
with CaptureWriter(target) as writer:
    for time_ns, data, _linktype, wirelen in talk.close().frames:
        writer.write(time_ns, data, wirelen)
