"""The monitor concludes what the kernel did: every kind of segment, in every state of its receiver.

`tests/data/receiver.jsonl` is what the kernel said (``python -m tests.receiver.kernel``; tests/live asks it again).
"""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.receiver.explained import EXPLAINED, explanation_of
from tests.receiver.monitor import differences
from tests.receiver.trials import STATES, Answer, load, segments

SETUPS, ANSWERS = load()
PAGE = Path(__file__).parents[2] / "docs" / "design" / "receivers.md"


@cache
def compared(state: str) -> list[tuple[Answer, list[str]]]:
    """Return the kernel's answers in a state, and how the monitor differs from each."""
    return [(answer, differences(answer, SETUPS[state])) for answer in ANSWERS if answer.state == state]


@pytest.mark.parametrize("state", SETUPS)
def test_the_monitor_concludes_what_the_kernel_did(state: str) -> None:
    """Bytes read, the state of the kernel's end, and whether it was reset; what differs is explained."""
    assert {
        answer.segment: what for answer, what in compared(state) if what and explanation_of(answer) is None
    } == {}


def test_every_explanation_explains_something() -> None:
    used = {explanation_of(answer) for state in SETUPS for answer, what in compared(state) if what}
    assert [one for one in EXPLAINED if one not in used] == []
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\s-]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    assert {one.reason for one in EXPLAINED} <= anchors


def test_the_table_is_whole() -> None:
    """It has an answer to every trial there is, and every kind of answer."""
    asked = [(answer.state.removesuffix(" with timestamps"), answer.segment) for answer in ANSWERS]
    assert asked == [(state, str(segment)) for state in STATES for segment in segments()]
    assert {answer.after for answer in ANSWERS} >= {state.split()[0] for state in STATES} | {"CLOSED"}
    assert {answer.error for answer in ANSWERS} >= {"", "ECONNRESET", "ECONNREFUSED"}
    assert any("EVIL" in answer.read for answer in ANSWERS)


def test_in_syn_sent_there_is_no_difference() -> None:
    """The kernel takes a SYN, or a RST with the right acknowledgement and echo; so does the monitor."""
    left = {answer.segment for answer, _ in compared("SYN_SENT") if answer.after != "SYN_SENT"}
    assert left
    assert all("S" in segment.split()[0] or "R" in segment.split()[0] for segment in left)
    assert [answer.segment for answer, what in compared("SYN_SENT") if what] == []
