"""Before the SYN-ACK: an end in SYN-SENT takes nothing but a SYN or a RST (RFC 9293 section 3.10.7.3)."""

from typing import Any

import pytest

from aiomos import PKT_IN, App, Budgets, Flow, Hook, Level, MonitorConnection, Packet, Settings
from aiomos.console.shortfalls import shortfalls
from aiomos.testing.packets import fastopen, mss, timestamps, wscale
from aiomos.testing.scenario import START, Conversation, Frame, Watched, Watcher, walk
from aiomos.testing.scenario import watch_in_batches as watch
from tests.events import play
from tests.line import cross

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
    flags: str, payload: bytes, seq: int, ack: int, numbers: dict[str, Any]
) -> None:
    """No number is fixed by it, none of it is delivered, and it ends nothing."""
    c = Conversation(**numbers).client("S").server(flags, payload, seq=seq, ack=ack, forged=True)
    check(talk(c.server("SA").client("A")), before_synack=1)


@pytest.mark.parametrize("numbers", WRAPS)
def test_however_often_it_comes(numbers: dict[str, Any]) -> None:
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
def test_the_clients_own_acknowledgement_tells_where_the_server_begins(numbers: dict[str, Any]) -> None:
    """The SYN-ACK was not captured: what the client acknowledges is the truth, what was forged is not."""
    c = Conversation(**numbers).client("S").server("PA", b"EVIL", seq=5000, ack=1, forged=True)
    check(talk(c.server("SA", captured=False).client("A")), before_synack=1)


@pytest.mark.parametrize("numbers", WRAPS)
def test_the_handshake_is_acknowledged_before_the_syn_ack_is_captured(numbers: dict[str, Any]) -> None:
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


@pytest.mark.parametrize("isn", [-200_000, 5, 5000, 1 << 30])
def test_a_syn_ack_that_does_not_fit_what_the_client_acknowledged(isn: int) -> None:
    """It was somebody else's: the client has told by then."""
    c = Conversation().client("S").server("SA", captured=False).client("A")
    c.server("SA", seq=isn, ack=1, options=mss(4), forged=True)
    check(talk(c), bad_synack=1)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("length", [1, 6, 60_000])
def test_what_the_server_said_before_what_its_client_was_first_seen_to_acknowledge_is_missing(
    length: int, numbers: dict[str, Any]
) -> None:
    """The SYN-ACK is captured behind it, and tells where the server begins: a window before it at most."""
    c = Conversation(**numbers).client("S").server("SA", captured=False).client("A", captured=False)
    c.server("PA", bytes(length), captured=False).client("A").server("SA", seq=0, ack=1)
    c.client("PA", b"hello").server("PA", b"answer").client("A").close()
    seen = watch(c.frames, level=Level.STREAM)
    client, server = seen.streams[0]
    assert (client.data, client.gaps, client.error) == (b"hello", (), None)
    assert (server.data, server.gaps, server.error) == (b"answer", ((0, length, "lost"),), None)
    assert (seen.record["server_lost"], seen.record["reason"]) == (length, "fin")


def test_a_hole_begins_when_it_is_known_where_the_stream_does() -> None:
    """What its receiver acknowledged before that, from another beginning on, is no measure of how long it waits."""
    c = Conversation().client("S").server("SA", captured=False).server("PA", b"answer", captured=False)
    c.client("PA", b"hello").server("FPA", b"ANSWER", captured=False).client("FA").wait(0.6)
    c.server("PA", b"answer", seq=1, ack=6).wait(0.6).server("FPA", b"ANSWER", seq=7, ack=6).server("A")
    server = watch(c.frames, level=Level.STREAM).streams[0][1]
    assert (server.data, server.gaps, server.error) == (b"answerANSWER", (), None)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("ack", [0, 50, 5000, 1 << 30, -1])
@pytest.mark.parametrize("flags", ["A", "FA"])
def test_a_stranger_in_the_clients_name_before_the_syn_ack(
    flags: str, ack: int, numbers: dict[str, Any]
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


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("acks", [(0,), (1,), (1, 50), (5000, 1), (1 << 30, -1)])
@pytest.mark.parametrize("seqs", [(0,), (1, 5), (1000,)])
@pytest.mark.parametrize("flags", [("PA",), ("FPA",), ("PA", "FA")])
def test_what_a_stranger_says_in_the_clients_name_before_the_syn_ack(
    flags: tuple[str, ...],
    seqs: tuple[int, ...],
    acks: tuple[int, ...],
    count: int,
    numbers: dict[str, Any],
) -> None:
    """A client in SYN-SENT sends no data but with its SYN; of these the server acknowledges nothing."""
    c = Conversation(**numbers).client("S")
    for n in range(count):
        payload = b"EVIL" if "P" in flags[n % len(flags)] else b""
        c.client(
            flags[n % len(flags)], payload, seq=seqs[n % len(seqs)], ack=acks[n % len(acks)], forged=True
        )
    seen = watch(talk(c.server("SA").client("A")).frames, level=Level.STREAM)
    assert [(half.data, half.gaps, half.error) for half in seen.streams[0]] == [
        (b"hello", (), None),
        (b"answer", (), None),
    ]
    record = seen.record
    assert (record["reason"], record["client_stream_bytes"], record["server_stream_bytes"]) == ("fin", 5, 6)
    assert (record["client_lost"], record["server_lost"]) == (0, 0)
    assert (record["client_retransmits"], record["server_retransmits"]) == (0, 0)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("copied", [True, False])
@pytest.mark.parametrize(("count", "late"), [(1, 0.0), (32, 0.0), (33, 0.0), (200, 0.0), (1, 3.0), (40, 3.0)])
@pytest.mark.parametrize("flags", ["PA", "FPA"])
def test_one_segment_of_a_stranger_however_often_and_however_long_before(
    flags: str, count: int, late: float, numbers: dict[str, Any], *, copied: bool
) -> None:
    """One segment alone tells nothing of its sender; the SYN-ACK is believed whatever came before it."""
    c = Conversation(**numbers).client("S").client(flags, b"EVIL", seq=1, ack=99, forged=True)
    for n in range(1, count):
        c.client(flags, b"EVIL", seq=1, ack=99, ip_id=0 if copied else n, forged=True)
    other = Conversation(client="10.0.0.9:999", start=START + 1 + late / 2).client("S")
    c.wait(late).server("SA").client("A")
    frames = sorted([*talk(c).frames, *other.frames], key=lambda frame: frame[0])
    seen = watch(frames, level=Level.STREAM)
    (client, server) = seen.streams[0]
    assert [(half.data, half.gaps, half.error) for half in (client, server)] == [
        (b"hello", (), None),
        (b"answer", (), None),
    ]
    (record,) = (record for record in seen.records if record["client_port"] == 40000)
    assert (record["reason"], record["client_retransmits"], record["client_lost"]) == ("fin", 0, 0)


@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_one_segment_of_a_client_alone_is_believed_at_the_end(level: Level) -> None:
    """With more from it a second later, else when nothing can tell otherwise any more."""
    c = Conversation().client("S").server("SA", captured=False).client("PA", b"hello")
    watcher = Watcher(level=level)
    watcher.feed(of_client(c))
    watcher.engine.pass_time(c.frames[-1][0] + 3_000_000_000)
    assert watcher.flow is not None
    assert watcher.flow.client.stream_bytes == 0
    watcher.feed(c.wait(3.1).client("PA", b"more").frames[-1:])
    assert watcher.flow.client.stream_bytes == 9
    assert watcher.finish().record["client_stream_bytes"] == 9
    assert watch(of_client(c)[:2], level=level).record["client_stream_bytes"] == 5


@pytest.mark.parametrize(
    ("seq", "ack"), [pytest.param(6, 99, id="behind it"), pytest.param(1, 99, id="instead of it"), (8, 1)]
)
@pytest.mark.parametrize("taken", [True, False])
def test_what_a_stranger_says_behind_data_in_a_syn(seq: int, ack: int, *, taken: bool) -> None:
    """Fast Open, whether the server takes the SYN's data or not."""
    c = Conversation().client("S", b"hello", options=fastopen(b"12345678"))
    c.client("PA", b"EVIL", seq=seq, ack=ack, forged=True)
    if taken:
        c.server("SA").client("A")
    else:
        c.server("SA", ack=1).client("A", seq=1).client("PA", b"hello", seq=1).server("A")
    seen = watch(c.server("PA", b"answer").client("A").close().frames, level=Level.STREAM)
    assert [half.data for half in seen.streams[0]] == [b"hello", b"answer"]
    assert (seen.record["reason"], seen.record["client_lost"], seen.record["server_lost"]) == ("fin", 0, 0)
    assert seen.record["client_retransmits"] == (0 if taken else 1)


def test_an_acknowledgement_of_an_earlier_connection_fixes_nothing() -> None:
    """An old segment of the client, whose numbers are not those of this SYN."""
    c = Conversation().client("S").client("A", seq=-100_000, ack=55_555, forged=True)
    check(talk(c.server("SA").client("A")), bad_ack=1)


# --- what a client says before the SYN-ACK is captured --------------------------------------------------


def of_client(c: Conversation) -> list[Frame]:
    """Leave out what the server sent."""
    return [frame for frame in c.frames if frame[1][26:30] == bytes([10, 0, 0, 1])]


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("behind", range(1, 7))
@pytest.mark.parametrize("first", ["client", "server"])
def test_the_syn_ack_is_captured_late(first: str, behind: int, numbers: dict[str, Any]) -> None:
    """However late: what the server acknowledged is delivered, in order."""
    c = Conversation(**numbers).client("S").server("SA").client("A")
    if first == "server":
        c.server("PA", b"answer").client("A")
    c.client("PA", b"he").client("PA", b"ll").client("PA", b"o").server("A")
    if first == "client":
        c.server("PA", b"answer").client("A")
    c.close()
    times = [frame[0] for frame in c.frames]
    c.frames.insert(1 + behind, c.frames.pop(1))
    late = [(time, *frame[1:]) for time, frame in zip(times, c.frames, strict=True)]
    seen = watch(late, level=Level.STREAM)
    assert [(half.data, half.gaps, half.error) for half in seen.streams[0]] == [
        (b"hello", (), None),
        (b"answer", (), None),
    ]
    assert (seen.record["reason"], seen.record["client_lost"], seen.record["server_lost"]) == ("fin", 0, 0)
    assert (seen.record["client_retransmits"], seen.record["server_retransmits"]) == (0, 0)


def skew(frames: list[Frame], late: int, missing: tuple[int, ...] = ()) -> list[Frame]:
    """Have the capture show the server's side *late* frames later: a mirror whose two sides are out of step."""
    places = [
        (at + (late + 0.5 if frame[1][26:30] == bytes([10, 0, 0, 2]) else 0), frame)
        for at, frame in enumerate(frames)
        if at not in missing
    ]
    places.sort(key=lambda place: place[0])
    return [(frames[at][0], *frame[1:]) for at, (_, frame) in enumerate(places)]


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("late", range(1, 7))
@pytest.mark.parametrize("level", [Level.STATE, Level.STREAM])
@pytest.mark.parametrize("first", ["client", "server", "both"])
def test_the_ends_while_the_server_is_captured_late(
    first: str, level: Level, late: int, numbers: dict[str, Any]
) -> None:
    """Either FIN may be acknowledged before it, or the SYN-ACK, is captured."""
    c = Conversation(**numbers).handshake()
    if first == "both":
        c.client("FPA", b"hello").server("A").server("FPA", b"answer").client("A")
    elif first == "client":
        c.client("PA", b"hello").server("PA", b"answer").client("A").close()
    else:
        c.server("PA", b"answer").client("A").client("PA", b"hello").server("A").client("A").close("server")
    seen = watch(skew(c.frames, late), level=level)
    assert seen.record["reason"] == "fin"
    if level is Level.STREAM:
        assert [(half.data, half.gaps, half.error) for half in seen.streams[0]] == [
            (b"hello", (), None),
            (b"answer", (), None),
        ]
        assert (seen.record["client_lost"], seen.record["server_lost"]) == (0, 0)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize(
    "order", [(3, 1, 2, 4), (3, 4, 1, 2), (4, 3, 1, 2), (3, 2, 1, 4), (3, 2, 4, 1), (3, 4, 2, 1)]
)
@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_the_server_is_captured_before_its_syn_ack(
    level: Level, order: tuple[int, ...], numbers: dict[str, Any]
) -> None:
    """What it says is delivered once the client acknowledges it, wherever its stream turns out to begin."""
    c = Conversation(**numbers).client("S").server("SA").client("A")
    c.server("PA", b"ans").server("PA", b"wer").client("A").client("PA", b"hello").server("A").close()
    frames = [
        (time[0], *c.frames[n][1:])
        for time, n in zip(c.frames, [0, *order, *range(5, len(c.frames))], strict=True)
    ]
    seen = watch(frames, level=level)
    record = seen.record
    assert (record["reason"], record["client_stream_bytes"], record["server_stream_bytes"]) == ("fin", 5, 6)
    assert (record["client_lost"], record["server_lost"]) == (0, 0)
    if level is Level.STREAM:
        assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"answer", ())]


@pytest.mark.parametrize("seq", [-3, 0, 1, 2, 5000, (1 << 29) + 1, -(1 << 30)])
def test_a_stranger_in_the_servers_name_gives_no_bytes(seq: int) -> None:
    """The client acknowledges what the server has sent, which comes first."""
    c = Conversation().client("S")
    for _ in range(40):
        c.server("PA", b"EVIL", seq=seq, ack=1, forged=True)
    c.server("SA").client("A").client("PA", b"hello").server("A")
    for _ in range(3000):
        c.server("PA", b"ab").client("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"ab" * 3000, ())]
    assert seen.record["server_stream_bytes"] == 6000


def test_a_server_alone_before_its_syn_ack_is_not_believed() -> None:
    """Nothing tells where its stream begins, and nobody has acknowledged it."""
    c = Conversation().client("S").server("PA", b"EVIL", seq=1, ack=1, forged=True).wait(5)
    c.server("PA", b"EVIL", seq=5, ack=1, forged=True)
    seen = watch(c.frames, level=Level.STREAM)
    assert seen.record["server_stream_bytes"] == 0
    assert seen.anomalies == {"before_synack": 2}
    assert unconfirmed(seen) == (2, 8)


def test_a_fin_captured_before_the_syn_ack() -> None:
    """It is the client's once the server has acknowledged it."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("FPA", b"hello")
    c.server("SA", seq=0, ack=1, forged=True).server("A")
    states = list(walk(c.frames))
    assert states[-2:] == [("ESTABLISHED", "ESTABLISHED"), ("FIN_WAIT_2", "CLOSE_WAIT")]
    c.server("PA", b"answer").client("A").server("FA").client("A")
    check(c)


def unconfirmed(seen: Watched) -> tuple[int, int]:
    return seen.statistics["unconfirmed"], seen.statistics["unconfirmed_bytes"]


def test_the_capture_ends_before_the_server_acknowledges() -> None:
    """What is in order is delivered if nothing else of that half was captured; what is not is counted."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("PA", b"hello")
    c.client("PA", b"lost", captured=False).client("PA", b"behind")
    c.server("SA", seq=0, ack=1, forged=True)
    seen = watch(c.frames, level=Level.STREAM)
    client = seen.streams[0][0]
    assert (client.data, client.gaps, unconfirmed(seen)) == (b"hello", (), (1, 6))


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_the_client_goes_on_behind_what_the_server_never_acknowledges(
    level: Level, numbers: dict[str, Any], *, waits: bool
) -> None:
    """It was captured, so it is none of the bytes that are lost, whether the capture ends or time goes by."""
    c = Conversation(**numbers).client("S").server("SA", captured=False).client("A").client("PA", b"hello")
    c.client("PA", b"lost", captured=False).client("PA", b"world")
    c.server("SA", seq=0, ack=1, forged=True).client("PA", b"more")
    watcher = Watcher(level=level)
    watcher.feed(c.frames, batch=1)
    assert watcher.flow is not None
    assert watcher.flow.client.stream_bytes == 4
    if waits:
        watcher.engine.pass_time(c.frames[-1][0] + 60_000_000_000)
        assert watcher.flow.client.stream_bytes == 14
    seen = watcher.finish()
    assert (seen.record["client_stream_bytes"], seen.record["client_lost"], unconfirmed(seen)) == (
        14,
        0,
        (0, 0),
    )
    if level is Level.STREAM:
        client = seen.streams[0][0]
        assert (client.data, client.gaps) == (b"helloworldmore", ((5, 4, "age" if waits else "end"),))


@pytest.mark.parametrize("end", ["", "RA", "FA"])
@pytest.mark.parametrize(("side", "seq"), [("client", 4), ("server", 5)])
def test_what_a_stranger_said_before_the_syn_ack_is_counted(side: str, seq: int, end: str) -> None:
    """Its sender has not gone on behind it: what nothing else has brought of it is neither delivered nor lost."""
    c = Conversation().client("S").send(side, "PA", b"EVIL", seq=seq, ack=1, forged=True)
    c.server("SA").client("A").client("PA", b"hello").server("A").server("PA", b"answer").client("A")
    if end == "FA":
        c.close()
    elif end:
        c.client(end)
    seen = watch(c.frames, level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"answer", ())]
    assert unconfirmed(seen) == (1, 2)
    (said,) = (shortfall for shortfall in shortfalls(seen.statistics) if shortfall.name == "unconfirmed")
    assert str(said) == "1 segment around a handshake that nothing confirmed, 2 bytes"


def test_part_of_it_is_acknowledged() -> None:
    """The rest waits until it is."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("PA", b"hello")
    c.server("SA", seq=0, ack=1, forged=True).server("A", ack=4).server("PA", b"answer", ack=4)
    watcher = Watcher()
    watcher.feed(c.frames, batch=1)
    assert watcher.flow is not None
    assert watcher.flow.client.stream_bytes == 3
    watcher.feed(c.client("A").server("A").frames[-2:])
    assert watcher.flow.client.stream_bytes == 5
    assert watcher.finish().record["client_lost"] == 0


@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("end", ["", "FA"])
def test_a_client_alone_is_believed(end: str, count: int, level: Level) -> None:
    """The server's side is not captured: nothing is missing, however much there is."""
    c = Conversation().client("S").server("SA", captured=False).client("A")
    for n in range(count):
        c.client("PA", b"%04d" % n)
    if end:
        c.client(end)
    seen = watch(of_client(c), level=level)
    assert seen.record["client_stream_bytes"] == 4 * count
    if level is Level.STREAM:
        client = seen.streams[0][0]
        assert (client.data, client.gaps) == (b"".join(b"%04d" % n for n in range(count)), ())


def test_a_client_alone_with_more_than_can_be_held() -> None:
    """Without room to hold it apart, it is believed."""
    c = Conversation().client("S").server("SA", captured=False).client("A")
    for n in range(8):
        c.client("PA", bytes([n]) * 5000)
    seen = watch(of_client(c), level=Level.STREAM, settings=Settings(budgets=Budgets(held_bytes=65536)))
    assert seen.streams[0][0].data == b"".join(bytes([n]) * 5000 for n in range(8))
    assert seen.streams[0][0].gaps == ()


@pytest.mark.parametrize(("later", "known"), [(0.998, 0), (0.999, 9)])
def test_after_a_second_without_an_answer_a_client_is_believed(later: float, known: int) -> None:
    """A second after the first of it, when what it says next is captured (a frame here takes a millisecond)."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("PA", b"hello")
    c.wait(later).client("PA", b"more")
    watcher = Watcher()
    watcher.feed(of_client(c), batch=1)
    assert watcher.flow is not None
    assert watcher.flow.client.stream_bytes == known
    assert watcher.finish().record["client_stream_bytes"] == 9


@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_a_client_alone_is_believed_though_it_says_no_more(level: Level) -> None:
    """Time passes with other frames, or with none."""
    c = Conversation().client("S").server("SA", captured=False).client("A").client("FPA", b"hello")
    watcher = Watcher(level=level)
    watcher.feed(of_client(c))
    assert watcher.flow is not None
    assert watcher.flow.client.stream_bytes == 0
    watcher.engine.pass_time(c.frames[-1][0] + 2_100_000_000)
    assert watcher.flow.client.stream_bytes == 5
    assert watcher.finish().record["client_stream_bytes"] == 5


def test_a_snap_length_cuts_what_was_said_early() -> None:
    """What was on the wire and not captured is a gap of that kind."""
    c = Conversation().client("S").server("SA", captured=False).client("A")
    c.client("PA", b"hello", snaplen=14 + 20 + 20 + 2).client("PA", b"world").server("A")
    (streams,) = watch(c.frames, level=Level.STREAM).streams
    assert (streams[0].data, streams[0].gaps) == (b"heworld", ((2, 3, "snaplen"),))


@pytest.mark.parametrize("level", [Level.STATE, Level.BYTES])
def test_a_client_alone_that_closes_is_half_closed(level: Level) -> None:
    """At every level, and at once."""
    c = (
        Conversation()
        .client("S")
        .server("SA", captured=False)
        .client("A")
        .client("PA", b"hello")
        .client("FA")
    )
    assert list(walk(of_client(c), level=level))[-1] == ("FIN_WAIT_1", "CLOSE_WAIT")


@pytest.mark.parametrize(("in_line", "known"), [(True, [5, 9]), (False, [0, 0])])
def test_in_line_a_client_is_believed_at_once(known: list[int], *, in_line: bool) -> None:
    """The SYN-ACK would have passed here, so its side goes another way; what passes has been seen."""
    app = App("watch")
    seen: list[int] = []
    data: list[bytes] = []

    @app.on(PKT_IN, hook=Hook.RECEIVER)
    def note(pkt: Packet, flow: Flow) -> None:
        if pkt.payload_len:
            seen.append(flow.client.stream_bytes)

    @app.monitor("server port 80")
    async def read(conn: MonitorConnection) -> None:
        data.append(await conn.client.read())

    c = Conversation().client("S").server("SA", captured=False).client("A")
    c.client("PA", b"hello").client("PA", b"more").client("FA")
    crossing = cross([frame[1] for frame in of_client(c)], app, in_line=in_line)
    assert (seen, len(crossing.there), data) == (known, 5, [b"hellomore"])


def test_a_syn_with_another_number_takes_back_what_was_said_behind_the_first() -> None:
    """Nothing but its SYN was the client's."""
    c = Conversation().client("S").client("PA", b"EVIL", seq=1, ack=0, forged=True)
    retry = Conversation(client_isn=0x55550000)
    talk(retry.client("S").server("SA").client("A"))
    at = c.frames[-1][0] + 1_000_000_000
    start = retry.frames[0][0]
    frames = c.frames + [(at + frame[0] - start, *frame[1:]) for frame in retry.frames]
    seen = watch(frames, level=Level.STREAM)
    assert [half.data for half in seen.streams[-1]] == [b"hello", b"answer"]


def test_fast_open_with_an_answer_before_the_syn_ack() -> None:
    """RFC 7413 section 4.2: overtaken by its answer, a SYN-ACK still comes first for the client."""
    c = Conversation().client("S", b"hello", options=fastopen(b"12345678"))
    c.server("PA", b"answer", seq=1, ack=6, forged=True).server("SA").server("PA", b"answer").client("A")
    check(c.close(), before_synack=1)


# --- the handshake's last segment is not captured ---------------------------------------------------------


def streams_of(frames: list[Frame]) -> list[tuple[bytes, tuple[tuple[int, int, str], ...]]]:
    return [(half.data, half.gaps) for half in watch(frames, level=Level.STREAM).streams[0]]


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("level", [Level.STATE, Level.STREAM])
@pytest.mark.parametrize("flags", ["PA", "FPA"])
def test_nor_are_the_servers_first_bytes(flags: str, level: Level, numbers: dict[str, Any]) -> None:
    """What the client says is delivered once the server acknowledges it; what the server said first is a gap."""
    c = Conversation(**numbers).client("S").server("SA").client("A", captured=False)
    c.server("PA", b"banner", captured=False).client("A").client(flags, b"hello").server("PA", b"answer")
    c.client("A")
    if flags == "PA":
        c.close()
    else:
        c.server("FA").client("A")
    seen = watch(c.frames, level=level)
    assert (seen.record["reason"], seen.setups) == ("fin", 1)
    assert "bad_ack" not in seen.anomalies
    if level is Level.STREAM:
        assert [(half.data, half.gaps) for half in seen.streams[0]] == [
            (b"hello", ()),
            (b"answer", ((0, 6, "lost"),)),
        ]
        assert (seen.record["client_lost"], seen.record["server_lost"]) == (0, 6)


@pytest.mark.parametrize("numbers", WRAPS)
def test_nor_are_the_servers_first_bytes_after_fast_open(numbers: dict[str, Any]) -> None:
    """RFC 7413: the server speaks before the handshake's last segment."""
    c = Conversation(**numbers).client("S", b"hello", options=fastopen(b"12345678")).server("SA")
    c.server("PA", b"banner", captured=False).client("A").client("PA", b"world").server("PA", b"answer")
    assert streams_of(c.client("A").close().frames) == [
        (b"helloworld", ()),
        (b"answer", ((0, 6, "lost"),)),
    ]


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("late", range(1, 7))
def test_nor_is_the_server_captured_in_time(late: int, numbers: dict[str, Any]) -> None:
    """Mirror ports out of step: nothing is missing then."""
    c = Conversation(**numbers).client("S").server("SA").client("A", captured=False)
    c.server("PA", b"banner").client("A").client("PA", b"hello").server("PA", b"answer").client("A")
    seen = watch(skew(c.close("server").frames, late), level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"banneranswer", ())]
    assert (seen.record["reason"], seen.record["server_retransmits"]) == ("fin", 0)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("late", [1, 2])
def test_what_was_acknowledged_with_a_fin_that_is_captured_late(late: int, numbers: dict[str, Any]) -> None:
    """Nothing but segments that were doubted acknowledges it: what is missing before the FIN is lost all the same."""
    c = Conversation(**numbers).handshake().server("PA", b"banner").client("A").client("PA", b"hello")
    c.server("PA", b"answer").client("A").close("server")
    seen = watch(skew(c.frames, late, missing=(2, 6)), level=Level.STREAM)
    assert [(half.data, half.gaps, half.error) for half in seen.streams[0]] == [
        (b"hello", (), None),
        (b"banner", ((6, 6, "lost"),), None),
    ]
    assert (seen.record["reason"], seen.record["server_lost"]) == ("fin", 6)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("banner", [(b"banner",), (b"ban", b"ner"), (b"b", b"anner")])
@pytest.mark.parametrize("level", [Level.BYTES, Level.STREAM])
def test_nor_is_the_syn_ack(level: Level, banner: tuple[bytes, ...], numbers: dict[str, Any]) -> None:
    """What the server said first reaches up to what the client acknowledges: its stream begins with that."""
    c = Conversation(**numbers).client("S").server("SA", captured=False).client("A", captured=False)
    for part in banner:
        c.server("PA", part)
    c.client("A").client("PA", b"hello").server("PA", b"answer").client("A")
    seen = watch(c.close("server").frames, level=level)
    record = seen.record
    assert (record["reason"], record["server_stream_bytes"], record["server_lost"]) == ("fin", 12, 0)
    if level is Level.STREAM:
        assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"banneranswer", ())]


@pytest.mark.parametrize("seq", [-1000, -4, 0, 8, 1000])
def test_a_stranger_before_what_the_client_acknowledges(seq: int) -> None:
    """What does not reach up to there is counted, and gives no bytes."""
    c = Conversation().client("S").server("PA", b"EVIL", seq=seq, ack=1, forged=True)
    c.server("SA", captured=False).client("A", captured=False).server("PA", b"banner", captured=False)
    c.client("A").client("PA", b"hello").server("PA", b"EVIL", seq=-2000, ack=1, forged=True)
    c.server("PA", b"answer").client("A")
    seen = watch(c.close("server").frames, level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"answer", ())]
    assert (seen.anomalies, unconfirmed(seen)) == ({"before_synack": 1}, (2, 8))


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("late", range(1, 7))
@pytest.mark.parametrize("lost", [False, True])
def test_fast_open_while_the_server_is_captured_late(
    late: int, numbers: dict[str, Any], *, lost: bool
) -> None:
    """The client acknowledges the SYN-ACK and what came with it before either is captured."""
    c = (
        Conversation(**numbers)
        .client("S", b"hello", options=fastopen(b"12345678"))
        .server("SA", options=mss(1400))
    )
    c.server("A", b"ban", captured=not lost).server("PA", b"ner").client("A").client("PA", b"world").server(
        "A"
    )
    seen = watch(skew(c.close("server").frames, late), level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [
        (b"helloworld", ()),
        (b"ner", ((0, 3, "lost"),)) if lost else (b"banner", ()),
    ]
    assert (seen.record["reason"], seen.record["server_mss"]) == ("fin", 1400)
    assert (seen.record["client_retransmits"], seen.record["server_retransmits"]) == (0, 0)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("flags", ["A", "PA", "FA"])
def test_a_stranger_in_the_servers_name_whose_window_is_not_known(
    flags: str, numbers: dict[str, Any]
) -> None:
    """The client is known by its SYN: an acknowledgement 900 MB ahead of it is doubted."""
    c = Conversation(**numbers).client("S").server("SA", captured=False).client("A")
    payload = b"EVIL" if "P" in flags else b""
    c.server(flags, payload, seq=5000, ack=900_000_000, forged=True)
    seen = watch(talk(c).frames, level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"answer", ())]
    assert (seen.record["reason"], seen.record["client_lost"], seen.record["server_lost"]) == ("fin", 0, 0)


@pytest.mark.parametrize("numbers", WRAPS)
@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("ack", [2, 500])
@pytest.mark.parametrize("seq", [1, 3, 6, 1000])
@pytest.mark.parametrize("flags", ["A", "PA", "FA", "FPA"])
def test_a_stranger_in_the_clients_name_before_the_handshakes_last_segment(
    flags: str, seq: int, ack: int, count: int, numbers: dict[str, Any]
) -> None:
    """It acknowledges what the server has not sent: nothing of it is delivered, and it ends nothing."""
    c = Conversation(**numbers).client("S").server("SA")
    for _ in range(count):
        c.client(flags, b"EVIL" if "P" in flags else b"", seq=seq, ack=ack, forged=True)
    seen = watch(talk(c.client("A")).frames, level=Level.STREAM)
    assert [(half.data, half.gaps) for half in seen.streams[0]] == [(b"hello", ()), (b"answer", ())]
    record = seen.record
    assert (record["reason"], record["client_lost"], record["server_lost"]) == ("fin", 0, 0)
    assert (record["client_retransmits"], record["server_retransmits"]) == (0, 0)


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


@pytest.mark.parametrize("answered", [True, False])
def test_what_is_sent_again_before_the_syn_ack_is_captured_counts(*, answered: bool) -> None:
    """One-sided captures, too, whose first second is held apart."""
    c = (
        Conversation()
        .client("S")
        .server("SA", captured=False)
        .client("A", ack=1)
        .client("PA", b"hello", ack=1)
    )
    c.wait(0.3).client("PA", b"hello", seq=1, ack=1).client("PA", b"world", ack=1)
    c.server("A", captured=answered).server("PA", b"answer", captured=answered).client("A").close()
    record = watch(c.frames, level=Level.STREAM).record
    assert (record["client_retransmits"], record["client_copies"], record["client_out_of_order"]) == (1, 0, 0)
    assert (record["client_stream_bytes"], record["client_bytes"]) == (10, 15)


@pytest.mark.parametrize(("options", "ahead"), [(b"", 900_000_000), (b"", 200_000), (wscale(0), 900_000_000)])
def test_one_forged_acknowledgement_makes_no_gap(options: bytes, ahead: int) -> None:
    """Though the SYN-ACK, which says how large windows may be, was not captured."""
    c = Conversation().client("S", options=options).server("SA", captured=False).client("A")
    c.server("PA", b"banner").server("A", seq=7, ack=ahead, forged=True).client("A")
    seen = watch(c.client("PA", b"hello").server("A").server("PA", b"answer").client("A").close().frames)
    assert seen.record["client_lost"] == seen.record["server_lost"] == 0
    assert (seen.record["client_stream_bytes"], seen.record["server_stream_bytes"]) == (5, 12)
    assert seen.record["reason"] == "fin"


def test_no_handler_begins_for_bytes_that_only_a_client_is_said_to_have_had() -> None:
    """Of a flow that is not established, where the bytes of its ends are counted by their numbers."""
    c = Conversation().client("S").server("A", seq=5000, ack=1, forged=True)
    c.client("SA", seq=0, ack=0, forged=True).client("A", seq=1, ack=900, forged=True)
    app: App[None] = App("app")
    begun: list[Flow] = []

    @app.monitor(level=Level.STATE)
    async def begin(conn: MonitorConnection) -> None:
        begun.append(conn.flow)

    report = play(c.frames, app)
    assert (report.counters["flows"], report.counters["anomaly.before_synack"], begun) == (1, 1, [])
