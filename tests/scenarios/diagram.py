"""The TCP state diagram (RFC 9293 figure 5), for tests to compare with."""

from aiomos.face.views import State

STEPS: dict[State, set[State]] = {
    State.LISTEN: {State.SYN_RECEIVED, State.SYN_SENT},
    State.SYN_SENT: {State.SYN_RECEIVED, State.ESTABLISHED},
    State.SYN_RECEIVED: {State.ESTABLISHED, State.FIN_WAIT_1},
    State.ESTABLISHED: {State.FIN_WAIT_1, State.CLOSE_WAIT},
    State.FIN_WAIT_1: {State.FIN_WAIT_2, State.CLOSING, State.TIME_WAIT},
    State.FIN_WAIT_2: {State.TIME_WAIT},
    State.CLOSING: {State.TIME_WAIT},
    State.CLOSE_WAIT: {State.LAST_ACK},
    State.LAST_ACK: {State.CLOSED},
    State.TIME_WAIT: {State.CLOSED},
    State.CLOSED: set(),
}
"""RFC 9293 figure 5."""


def reachable(state: State) -> set[State]:
    """States that can follow, with any number of steps not seen between; a reset closes from anywhere."""
    found, todo = {state, State.CLOSED}, [state]
    while todo:
        for following in STEPS[todo.pop()] - found:
            found.add(following)
            todo.append(following)
    return found
