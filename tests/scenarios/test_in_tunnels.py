"""Connections in tunnels: followed when asked, and told apart when asked."""

import pytest

from aiomos.levels import Level
from aiomos.settings import Settings
from aiomos.testing.packets import ethernet, fragment_ipv4
from aiomos.testing.scenario import Conversation, Frame, merge
from aiomos.testing.scenario import watch_in_batches as watch
from tests.tunnels import TUNNELS, V4, Way, gtp, ip_of, over_ip, over_udp, vxlan

OPEN = Settings(decapsulate=True)
APART = Settings(decapsulate=True, separate_tunnels=True)
CLIENT_PORT = 40_000


def wrapped(conversation: Conversation, way: Way) -> Conversation:
    """Put all frames of a conversation into a tunnel."""
    conversation.frames = [
        (time, outer := way(data, int.from_bytes(data[34:36]) == CLIENT_PORT), link, len(outer))
        for time, data, link, _ in conversation.frames
    ]
    return conversation


def talk(request: bytes, response: bytes, **options: int) -> Conversation:
    c = Conversation(**options).handshake().client("PA", request).server("PA", response)
    return c.client("A").close()


def vni(number: int) -> Way:
    return lambda frame, forth: over_udp(vxlan(frame, number), forth, 4789)


@pytest.mark.parametrize("settings", [OPEN, APART], ids=["together", "apart"])
@pytest.mark.parametrize("name", TUNNELS)
def test_connection_in_a_tunnel(name: str, settings: Settings) -> None:
    """One flow, whatever the tunnel has that differs by direction."""
    c = wrapped(talk(b"request", b"response"), TUNNELS[name])
    seen = watch(c.frames, level=Level.STREAM, settings=settings)
    assert [(r["client"], r["client_bytes"], r["server_bytes"], r["reason"]) for r in seen.records] == [
        ("10.0.0.1", 7, 8, "fin")
    ]
    assert [half.data for half in seen.streams[0]] == [b"request", b"response"]


def test_without_decapsulation_there_is_no_connection() -> None:
    seen = watch(wrapped(talk(b"request", b"response"), TUNNELS["VXLAN"]).frames)
    assert (seen.records, seen.statistics["udp"], seen.statistics["unread.udp.vxlan"]) == ([], 10, 10)
    seen = watch(wrapped(talk(b"request", b"response"), TUNNELS["GRE"]).frames)
    assert (seen.records, seen.statistics["unread.protocol.gre"]) == ([], 10)


def overlapping(first: Way, second: Way) -> list[Frame]:
    """Two connections with the same ends, at the same time, in two tunnels."""
    return merge(
        wrapped(talk(b"f" * 27, b"F" * 1041), first),
        wrapped(talk(b"s" * 26, b"S" * 19, client_isn=7_000_000, server_isn=9_000_000), second),
    )


def test_flows_of_different_tunnels_are_kept_apart_on_request() -> None:
    seen = watch(overlapping(vni(1), vni(2)), level=Level.STREAM, settings=APART)
    assert sorted((r["client_bytes"], r["server_bytes"], r["reason"]) for r in seen.records) == [
        (26, 19, "fin"),
        (27, 1041, "fin"),
    ]
    assert sorted(half.data for pair in seen.streams for half in pair) == [
        b"F" * 1041,
        b"S" * 19,
        b"f" * 27,
        b"s" * 26,
    ]
    assert {n for name, n in seen.statistics.items() if name.startswith("anomaly.")} == {0}


def test_without_the_request_what_does_not_fit_is_counted() -> None:
    """One flow has the same ends; of the other every segment is refused, and has its reason."""
    seen = watch(overlapping(vni(1), vni(2)), level=Level.STREAM, settings=OPEN)
    assert len(seen.records) == 1
    assert seen.record["client_bytes"] >= 27
    refused = sum(n for name, n in seen.statistics.items() if name.startswith("anomaly."))
    assert refused >= 8


def test_filters_see_the_inner_ends_of_separated_flows() -> None:
    frames = overlapping(vni(1), vni(2))
    for text, count in (
        ("client host 10.0.0.1 and server port 80", 2),
        ("host 192.0.2.1", 0),
        ("port 4789", 0),
    ):
        assert len(watch(frames, settings=APART, filter=text).records) == count


def test_many_tunnels_with_the_same_ends() -> None:
    """All flows are there, and each has its own bytes."""
    scripts = [wrapped(talk(b"x" * number, b"y"), vni(number)) for number in range(1, 301)]
    seen = watch(merge(*scripts), settings=APART)
    assert sorted(r["client_bytes"] for r in seen.records) == list(range(1, 301))


def test_endpoint_identifiers_of_gtp_do_not_separate_directions() -> None:
    """They are the receiver's own, so that each direction has another; the ends move with the phone."""
    c = Conversation().handshake().client("PA", b"before").server("A")
    moved = len(c.frames)
    c.client("PA", b" and after").server("A").close()
    frames = []
    for number, (time, data, link, _) in enumerate(c.frames):
        forth = int.from_bytes(data[34:36]) == CLIENT_PORT
        ends = V4 if number < moved else ("192.0.2.7", "192.0.2.2")
        outer = over_udp(gtp(ip_of(data), forth), forth, 2152, ends=ends)
        frames.append((time, outer, link, len(outer)))
    seen = watch(frames, level=Level.STREAM, settings=APART)
    assert (len(seen.records), seen.streams[0][0].data) == (1, b"before and after")


def test_fragments_of_different_tunnels_are_not_mixed() -> None:
    """The same identification in two tunnels, whose fragments come by turns."""

    def in_fragments(conversation: Conversation, number: int) -> list[list[Frame]]:
        return [
            [
                (time, (outer := vni(number)(ethernet(piece), True)), link, len(outer))
                for piece in fragment_ipv4(ip_of(data), 24)
            ]
            for time, data, link, _ in conversation.frames
        ]

    one = Conversation().handshake().client("PA", b"1" * 100, ip_id=7).server("A")
    two = Conversation(client_isn=5).handshake().client("PA", b"2" * 100, ip_id=7).server("A")
    frames = []
    for first, second in zip(in_fragments(one, 1), in_fragments(two, 2), strict=True):
        for pair in zip(first, second, strict=True):
            frames.extend(pair)
    seen = watch(frames, level=Level.STREAM, settings=APART)
    assert sorted(pair[0].data for pair in seen.streams) == [b"1" * 100, b"2" * 100]


def test_a_doubted_syn_opens_its_flow_in_its_tunnel() -> None:
    """A SYN that is kept until it is confirmed belongs to the tunnel that it came in."""
    old = wrapped(Conversation().handshake().client("PA", b"old"), vni(2))
    new = wrapped(talk(b"new!", b"y", client_isn=77, server_isn=99), vni(2))
    other = wrapped(talk(b"other", b"y"), vni(1))
    frames = (
        old.frames
        + [(time + 10**9, *rest) for time, *rest in new.frames]
        + [(time + 2 * 10**9, *rest) for time, *rest in other.frames]
    )
    seen = watch(frames, settings=APART)
    assert sorted(r["client_bytes"] for r in seen.records) == [3, 4, 5]


def test_ip_in_ip_is_told_apart_by_its_ends() -> None:
    def between(far: str) -> Way:
        return lambda frame, forth: over_ip(ip_of(frame), 4, forth, ("192.0.2.1", far))

    frames = overlapping(between("192.0.2.2"), between("192.0.2.3"))
    assert len(watch(frames, settings=APART).records) == 2
    assert len(watch(frames, settings=OPEN).records) == 1
