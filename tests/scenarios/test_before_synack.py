"""Before the SYN-ACK: an end in SYN-SENT takes nothing but a SYN or a RST (RFC 9293 section 3.10.7.3)."""

from typing import Any

import pytest

from aiomos.tcp.levels import Level
from aiomos.testing.packets import fastopen, mss, timestamps, wscale
from aiomos.testing.scenario import Conversation, Watched, Watcher
from aiomos.testing.scenario import watch_in_batches as watch

WRAPS = [
    pytest.param({}, id="far from the wrap"),
    pytest.param({"client_isn": 0xFFFFFFFF, "server_isn": 0xFFFFFFFE}, id="at the wrap"),
    pytest.param({"client_isn": 0xFFFFFFFE, "server_isn": 0xFFFFFFFF}, id="at the other wrap"),
]


def talk(c: Conversation) -> Conversation:
    """What both ends say once they are connected."""
    return c.client("PA", b"hello").server("A").server("PA", b"answer").client("A").close()


def check(c: Conversation, **anomalies: int) -> Watched:
    """The connection is whole, whatever came before it."""
    seen = watch(c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, client.gaps, client.error) == (b"hello", (), None)
    assert (server.data, server.gaps, server.error) == (b"answer", (), None)
    record = seen.record
    assert (record["client_port"], record["reason"], record["midstream"]) == (40000, "fin", False)
    assert (record["client_stream_bytes"], record["server_stream_bytes"]) == (5, 6)
    assert (record["client_lost"], record["server_lost"], seen.setups) == (0, 0, 1)
    assert seen.anomalies == anomalies
    return seen


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize(
    ("flags", "payload"), [("A", b""), ("PA", b"EVIL"), ("FA", b""), ("FPA", b"EVIL"), ("PAU", b"EVIL")]
)
@pytest.mark.parametrize("seq", [-1000, 0, 1, 2, 700, 700_000_000])
@pytest.mark.parametrize("ack", [-1000, 0, 1, 2, 900_000_000])
def test_nothing_of_the_servers_side_is_taken(
    flags: str, payload: bytes, seq: int, ack: int, numbers: dict[str, int]
) -> None:
    """No number is fixed by it, none of it is delivered, and it ends nothing."""
    c = Conversation(**numbers).client("S").server(flags, payload, seq=seq, ack=ack, forged=True)
    check(talk(c.server("SA").client("A")), before_synack=1)


@pytest.mark.parametrize("numbers", WRAPS)
def test_however_often_it_comes(numbers: dict[str, int]) -> None:
    """A jump is believed after eight segments in a row; this is none."""
    c = Conversation(**numbers).client("S")
    for at in range(20):
        c.server("PA", b"EVIL", seq=5000 + 4 * at, ack=1, forged=True)
    check(talk(c.server("SA").client("A")), before_synack=20)


def test_the_challenge_to_an_old_connection_and_its_answer() -> None:
    """RFC 9293 section 3.5, figure 10: by a RST the client has the old connection forgotten, and tries again."""
    c = Conversation().client("S").server("A", seq=700_000_000, ack=900_000_000, forged=True)
    c.client("R", seq=900_000_000, forged=True).wait(1).client("S", seq=0).server("SA").client("A")
    seen = check(talk(c), before_synack=1)
    assert seen.record["client_retransmits"] == 1


@pytest.mark.parametrize("ack", [0, 2])
def test_the_answer_may_stand_where_the_syn_ended(ack: int) -> None:
    """A RST of the client that answers what it refused gives up nothing."""
    c = Conversation().client("S").server("FA", seq=0, ack=ack, forged=True).client("R", seq=ack, forged=True)
    check(talk(c.server("SA").client("A")), before_synack=1)


def test_a_client_that_resets_what_it_need_not_answer_gives_up() -> None:
    """An acceptable acknowledgement is passed over in silence, so this RST is none of its answers."""
    c = Conversation().client("S").server("A", seq=5000, ack=1, forged=True).client("R", seq=1)
    assert watch(c.frames).record["reason"] == "rst"


# --- timestamps: RFC 7323 section 3.2 -------------------------------------------------------------------

STAMP = {"options": timestamps(5000)}


@pytest.mark.parametrize("echo", [7, 4999, 5100, 0x80005000])
@pytest.mark.parametrize("flags", ["RA", "SA"])
def test_an_echo_of_what_was_never_sent(flags: str, echo: int) -> None:
    """Linux refuses it before it looks at RST or SYN, unless the TSecr is 0."""
    c = Conversation().client("S", **STAMP)
    c.server(flags, seq=777, ack=1, options=timestamps(100, echo), forged=True)
    c.server("SA", options=timestamps(700, 5000)).client("A", options=timestamps(5010, 700))
    c.client("PA", b"hello", options=timestamps(5020, 700)).server("A", options=timestamps(710, 5020))
    c.server("PA", b"answer", options=timestamps(720, 5020)).client("A", options=timestamps(5030, 720))
    seen = check(c.close(), **{"bad_reset" if flags == "RA" else "bad_synack": 1})
    assert seen.record["server_packets"] == 6


@pytest.mark.parametrize("echo", [0, 5000, 5001, 6000])
def test_an_echo_of_what_was_sent_refuses_the_connection(echo: int) -> None:
    """Of any SYN: a refusal may take longer than the client waits."""
    c = Conversation().client("S", **STAMP).wait(1).client("S", seq=0, options=timestamps(6000))
    c.server("RA", seq=0, ack=1, options=timestamps(100, echo), forged=True)
    assert watch(c.frames).record["reason"] == "rst"


def test_a_clock_that_ticks_fast() -> None:
    """Linux with microsecond stamps: a second SYN shows how far it is."""
    c = Conversation().client("S", **STAMP).wait(1).client("S", seq=0, options=timestamps(1_005_000))
    c.server("SA", options=timestamps(1, 1_005_000)).client("A", options=timestamps(1_006_000, 1))
    check(talk(c))


# --- what the capture may lack, or have in another order ------------------------------------------------


@pytest.mark.parametrize("numbers", WRAPS)
def test_the_clients_own_acknowledgement_tells_where_the_server_begins(numbers: dict[str, int]) -> None:
    """The SYN-ACK was not captured: what the client acknowledges is the truth, what was forged is not."""
    c = Conversation(**numbers).client("S").server("PA", b"EVIL", seq=5000, ack=1, forged=True)
    check(talk(c.server("SA", captured=False).client("A")), before_synack=1)


@pytest.mark.parametrize("numbers", WRAPS)
def test_the_handshake_is_acknowledged_before_the_syn_ack_is_captured(numbers: dict[str, int]) -> None:
    """Mirror ports out of step: the SYN-ACK fits what was acknowledged, and its options count."""
    c = Conversation(**numbers).client("S", options=mss(1460) + wscale(7))
    synack = Conversation(**numbers).client("S").server("SA", options=mss(1400) + wscale(8)).frames[1]
    c.server("SA", captured=False).client("A", window=1000)
    c.frames.append((c.frames[-1][0] + 10_000, *synack[1:]))
    seen = check(talk(c))
    assert (seen.record["server_mss"], seen.record["server_window_scale"]) == (1400, 8)
    assert seen.record["server_retransmits"] == 0


def test_first_data_captured_before_the_syn_ack() -> None:
    """As far out of step as that."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("PA", b"hello")
    c.server("SA", seq=0, ack=1, forged=True).server("A").server("PA", b"answer").client("A").close()
    check(c)


@pytest.mark.parametrize("isn", [-1, 5, 5000, 1 << 30])
def test_a_syn_ack_that_does_not_fit_what_the_client_acknowledged(isn: int) -> None:
    """It was somebody else's: the client has told by then."""
    c = Conversation().client("S").server("SA", captured=False).client("A")
    c.server("SA", seq=isn, ack=1, options=mss(4), forged=True)
    check(talk(c), bad_synack=1)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("ack", [0, 50, 5000, 1 << 30, -1])
@pytest.mark.parametrize("flags", ["A", "FA"])
def test_a_stranger_in_the_clients_name_before_the_syn_ack(
    flags: str, ack: int, numbers: dict[str, int]
) -> None:
    """Whose numbers the client has taken, what it acknowledges next tells; what the stranger said is forgotten."""
    c = Conversation(**numbers).client("S").client(flags, seq=1, ack=ack, forged=True)
    seen = watch(talk(c.server("SA").client("A")).frames, level=Level.STREAM)
    assert [half.data for half in seen.streams[0]] == [b"hello", b"answer"]
    assert (len(seen.records), seen.record["reason"]) == (1, "fin")
    assert (seen.record["client_lost"], seen.record["server_lost"]) == (0, 0)


def test_a_fin_in_the_clients_name_before_the_syn_ack_closes_nothing() -> None:
    c = Conversation().client("S").client("FA", seq=1, ack=50, forged=True).server("SA").client("A")
    watcher = Watcher()
    watcher.feed(c.frames, batch=1)
    assert watcher.flow is not None
    states = watcher.flow.client.state, watcher.flow.server.state
    assert [state.name for state in states] == ["ESTABLISHED", "ESTABLISHED"]


def test_an_acknowledgement_of_an_earlier_connection_fixes_nothing() -> None:
    """An old segment of the client, whose numbers are not those of this SYN."""
    c = Conversation().client("S").client("A", seq=-100_000, ack=55_555, forged=True)
    check(talk(c.server("SA").client("A")), bad_ack=1)


def test_fast_open_with_an_answer_before_the_syn_ack() -> None:
    """RFC 7413 section 4.2: overtaken by its answer, a SYN-ACK still comes first for the client."""
    c = Conversation().client("S", b"hello", options=fastopen(b"12345678"))
    c.server("PA", b"answer", seq=1, ack=6, forged=True).server("SA").server("PA", b"answer").client("A")
    check(c.close(), before_synack=1)


# --- split handshakes -----------------------------------------------------------------------------------


def split(form: str, numbers: dict[str, Any]) -> Conversation:
    c = Conversation(**numbers).client("S")
    if form == "four segments":
        return (
            c.server("A", seq=0, ack=1, forged=True).server("S", seq=0).client("SA", seq=0, ack=1).server("A")
        )
    if form == "five segments":
        return c.server("A", seq=-1000, ack=1, forged=True).server("S").client("SA", seq=0, ack=1).server("A")
    if form == "no acknowledgement":
        return c.server("S").client("SA", seq=0, ack=1).server("A")
    return c.server("S").client("SA", seq=0, ack=1).server("SA", seq=0, ack=1).client("A")


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("form", ["four segments", "five segments", "no acknowledgement", "simultaneous"])
def test_split_handshakes_keep_the_roles(form: str, numbers: dict[str, Any]) -> None:
    """The client is who sent the first SYN, though it sends the SYN-ACK as well."""
    check(talk(split(form, numbers)), **({"before_synack": 1} if "segments" in form else {}))
