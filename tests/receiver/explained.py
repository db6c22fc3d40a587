"""Where the monitor concludes something else than the kernel did, and why: docs/design/receivers.md.

Every difference has its entry here, and every entry its difference, or the tests fail.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.receiver.trials import Answer


class Explanation(NamedTuple):
    """What a set of trials have in common."""

    reason: str
    """A heading of docs/design/receivers.md, as its anchor."""
    state: str
    """Regular expression of the state's whole name."""
    segment: str
    """Of the segment's."""

    def covers(self, answer: Answer) -> bool:
        return bool(re.fullmatch(self.state, answer.state) and re.fullmatch(self.segment, answer.segment))


EXPLAINED = [
    Explanation(
        "acknowledgements-of-what-was-not-captured",
        "ESTABLISHED.*|FIN_WAIT_2",
        r"(FA|F?PA) ack\+(1|1000)( EVIL)?",
    ),
    Explanation("acknowledgements-of-old-segments", "FIN_WAIT_1|CLOSING|LAST_ACK", r"F?A seq-[12]"),
    Explanation("a-fin-in-front-of-held-data", "ESTABLISHED with a hole.*", r"FP?A( .*)?"),
    Explanation("a-syn-that-ends-a-half-open-connection", "SYN_RECEIVED by SYN.*", r"SF?( .*)?"),
    Explanation(
        "stamps-of-a-half-open-connection",
        "SYN_RECEIVED by SYN with timestamps",
        r"(A|PA|FA|R|RA)( .*)? stamps=.*",
    ),
    Explanation("simultaneous-open", "SYN_RECEIVED", r"(A|F?PA|FA) ack-1( EVIL)?|FA seq-1"),
    Explanation("simultaneous-open", "SYN_RECEIVED by SYN", "SA seq-1"),
    Explanation("the-kernels-fast-path", "ESTABLISHED with data in flight", "PA ack-200000 EVIL"),
    Explanation("resets-that-nobody-accepts", "CLOSE_WAIT", r"F?PA ack-[13] EVIL"),
    Explanation("a-syn-after-the-end", "TIME_WAIT.*", r"S( .*)?"),
]


def explanation_of(answer: Answer) -> Explanation | None:
    return next((one for one in EXPLAINED if one.covers(answer)), None)
