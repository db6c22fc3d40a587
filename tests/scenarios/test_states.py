"""The function from known facts to TCP states, by itself (RFC 9293 sections 3.3.2 and 3.6)."""

import pytest

from aiomos.face.views import State
from aiomos.tcp.monitor import _state_of
from tests.scenarios.diagram import reachable

SYN_SENT, SYN_ACKED, SYN_RECEIVED, FIN_SENT, FIN_ACKED, FIN_RECEIVED, PASSIVE_CLOSE, RESET = (
    1 << bit for bit in range(8)
)
SYNCHRONISED = SYN_SENT | SYN_ACKED | SYN_RECEIVED


def additions(facts: int) -> set[int]:
    """Facts that one more piece of knowledge can lead to."""
    found = {facts | fact for fact in (SYN_SENT, SYN_ACKED, SYN_RECEIVED, FIN_SENT, RESET)}
    if facts & FIN_SENT:
        found.add(facts | FIN_ACKED)
    if not facts & FIN_RECEIVED:
        found.add(facts | FIN_RECEIVED | (0 if facts & FIN_SENT else PASSIVE_CLOSE))
    return found


@pytest.mark.parametrize("facts", range(256))
def test_every_state_is_one_of_the_rfc(facts: int) -> None:
    """No combination of facts is without a state."""
    assert _state_of(facts) in set(State)


def test_facts_only_lead_along_the_diagram() -> None:
    """From every reachable set of facts, whatever is learnt next moves forward in figure 5, or not at all."""
    seen, todo = {0}, [0]
    while todo:
        facts = todo.pop()
        for more in additions(facts):
            before, after = State(_state_of(facts)), State(_state_of(more))
            assert after in reachable(before), f"{facts:#x} to {more:#x}: {before.name} to {after.name}"
            if more not in seen:
                seen.add(more)
                todo.append(more)
    assert {State(_state_of(facts)) for facts in seen} == set(State)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (0, State.LISTEN),
        (SYN_SENT, State.SYN_SENT),
        (SYN_RECEIVED, State.SYN_RECEIVED),
        (SYN_SENT | SYN_RECEIVED, State.SYN_RECEIVED),
        (SYNCHRONISED, State.ESTABLISHED),
        (SYNCHRONISED | FIN_SENT, State.FIN_WAIT_1),
        (SYNCHRONISED | FIN_SENT | FIN_ACKED, State.FIN_WAIT_2),
        (SYNCHRONISED | FIN_SENT | FIN_RECEIVED, State.CLOSING),
        (SYNCHRONISED | FIN_SENT | FIN_RECEIVED | FIN_ACKED, State.TIME_WAIT),
        (SYNCHRONISED | FIN_RECEIVED | PASSIVE_CLOSE, State.CLOSE_WAIT),
        (SYNCHRONISED | FIN_RECEIVED | PASSIVE_CLOSE | FIN_SENT, State.LAST_ACK),
        (SYNCHRONISED | FIN_RECEIVED | PASSIVE_CLOSE | FIN_SENT | FIN_ACKED, State.CLOSED),
        (SYNCHRONISED | RESET, State.CLOSED),
    ],
)
def test_state_by_its_facts(facts: int, state: State) -> None:
    """RFC 9293 section 3.3.2, one line a state."""
    assert _state_of(facts) == state
