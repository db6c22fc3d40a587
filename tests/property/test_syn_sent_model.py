"""Whatever comes from either end's address before the SYN-ACK, the monitor reads what both ends read."""

from hypothesis import assume, given
from hypothesis import strategies as st

from aiomos.levels import Level
from aiomos.testing.packets import timestamps
from aiomos.testing.scenario import Conversation, watch
from tests.models.syn_sent import MODULUS, Arrival, Opener

STAMP = 5000

numbers = st.one_of(st.integers(-3, 3), st.integers(-70_000, 70_000), st.integers(-(1 << 31), (1 << 31) - 1))
forgeries = st.builds(
    Arrival,
    flags=st.sampled_from(["A", "PA", "FA", "FPA", "R", "RA", "SA", "P", "", "F", "SRA", "PAU"]),
    seq=numbers,
    ack=numbers,
    payload=st.binary(max_size=8),
    echo=st.sampled_from([None, 0, STAMP, STAMP - 1, STAMP + 100_000, 7]),
)
answers = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4)


@given(
    forged=st.lists(forgeries, max_size=12),
    client_isn=st.sampled_from([0, 1, 0x1234, MODULUS - 1, MODULUS - 2, MODULUS - 5]),
    server_isn=st.sampled_from([0, 0x777, MODULUS - 1, MODULUS - 3, MODULUS - 9]),
    stamped=st.booleans(),
    payloads=answers,
)
def test_forged_segments_before_the_syn_ack_change_nothing(
    forged: list[Arrival], client_isn: int, server_isn: int, payloads: list[bytes], *, stamped: bool
) -> None:
    """Not the streams, not the roles, not the end: where the model is not reset, the connection is whole."""
    client = Opener(client_isn, STAMP if stamped else None)
    c = Conversation(client_isn=client_isn, server_isn=server_isn)
    c.client("S", options=timestamps(STAMP) if stamped else b"")
    for one in forged:
        arrival = one._replace(seq=(server_isn + one.seq) % MODULUS, ack=(client_isn + one.ack) % MODULUS)
        options = timestamps(9, one.echo) if one.echo is not None else b""
        c.server(one.flags, one.payload, seq=one.seq, ack=one.ack, options=options, forged=True)
        if client.take(arrival) == "R":
            c.client("R", seq=one.ack, forged=True)
        # A forged SYN-ACK that its client takes is the true one to everybody.
        assume(client.state != "ESTABLISHED")
    if client.state == "CLOSED":
        assert watch(c.frames).record["reason"] == "rst"
        return
    c.server("SA", options=timestamps(700, STAMP) if stamped else b"")
    client.take(Arrival("SA", server_isn, (client_isn + 1) % MODULUS, echo=STAMP if stamped else None))
    c.client("A").client("PA", b"hello").server("A")
    at = 1
    for payload in payloads:
        c.server("PA", payload).client("A")
        client.take(Arrival("PA", (server_isn + at) % MODULUS, 0, payload))
        at += len(payload)
    seen = watch(c.close().frames, level=Level.STREAM)
    (streams,) = seen.streams
    assert [(half.gaps, half.error) for half in streams] == [((), None), ((), None)]
    assert (streams[0].data, streams[1].data) == (b"hello", client.read)
    assert client.read == b"".join(payloads)
    assert (seen.record["client_port"], seen.record["reason"], seen.setups) == (40000, "fin", 1)
    assert (seen.record["client_lost"], seen.record["server_lost"]) == (0, 0)


@given(
    forged=st.lists(
        st.tuples(st.sampled_from(["A", "PA", "FA", "FPA", "PAU"]), numbers, numbers, st.binary(max_size=8)),
        max_size=30,
    ),
    client_isn=st.sampled_from([0, 1, 0x1234, MODULUS - 1, MODULUS - 2, MODULUS - 5]),
    server_isn=st.sampled_from([0, 0x777, MODULUS - 1, MODULUS - 3, MODULUS - 9]),
    payloads=answers,
)
def test_nor_do_such_in_the_clients_name(
    forged: list[tuple[str, int, int, bytes]], client_isn: int, server_isn: int, payloads: list[bytes]
) -> None:
    """An end in SYN-SENT has sent nothing but its SYN, and the server acknowledges nothing else."""
    c = Conversation(client_isn=client_isn, server_isn=server_isn).client("S")
    for flags, seq, ack, payload in forged:
        c.client(flags, payload, seq=seq, ack=ack, forged=True)
    c.server("SA").client("A").client("PA", b"hello").server("A")
    for payload in payloads:
        c.server("PA", payload).client("A")
    seen = watch(c.close().frames, level=Level.STREAM)
    (streams,) = seen.streams
    assert [(half.gaps, half.error) for half in streams] == [((), None), ((), None)]
    assert (streams[0].data, streams[1].data) == (b"hello", b"".join(payloads))
    assert (seen.record["client_port"], seen.record["reason"], seen.setups) == (40000, "fin", 1)
    assert (seen.record["client_lost"], seen.record["server_lost"]) == (0, 0)
