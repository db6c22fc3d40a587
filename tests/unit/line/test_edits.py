"""Edits one by one: what leaves for a segment, what the sender is told, what is refused and forgotten."""

from typing import Any

import pytest

probe = pytest.importorskip("tests.native._probe_edits", reason="needs the native test probes")

ISN = 2**32 - 20  # numbers wrap within the first edits
FIN, SYN, RST, PSH, ACK, URG, CWR = 1, 2, 4, 8, 0x10, 0x20, 0x80


def at(offset: int) -> int:
    return (ISN + offset) % 2**32


class Half:
    """A half of which nothing has been sent; numbers are offsets."""

    def __init__(self, **settings: Any) -> None:
        self.store = probe.Store(**{k: settings.pop(k) for k in ("half_budget", "budget") if k in settings})
        self.native = probe.Half(self.store, ISN, ISN, **settings)

    def edit(self, offset: int, payload: bytes, data: bytes) -> list[tuple[int, bytes]]:
        assert self.native.replace(at(offset), payload, data) == "noted"
        return self.send(offset, payload)

    def plan(self, offset: int, payload: bytes = b"", flags: int = ACK, **more: Any) -> dict[str, Any]:
        plan: dict[str, Any] = self.native.send(at(offset), payload, flags, **more)
        return plan

    def send(
        self, offset: int, payload: bytes = b"", flags: int = ACK, **more: Any
    ) -> list[tuple[int, bytes]]:
        segments = self.plan(offset, payload, flags, **more)["segments"]
        return [((seq - ISN) % 2**32, data) for seq, _, _, data in segments]

    def acknowledge(self, ack: int, *args: Any) -> int:
        return int((self.native.acknowledge(at(ack), *args)[0] - ISN) % 2**32)


def test_what_follows_an_edit_is_shifted() -> None:
    half = Half()
    assert half.edit(0, b"0123456789", b"abc") == [(0, b"abc")]
    assert half.send(10, b"more") == [(3, b"more")]
    assert half.send(14, flags=ACK | FIN) == [(7, b"")]
    assert half.acknowledge(8) == 15


def test_a_retransmission_carries_what_left_first() -> None:
    half = Half()
    half.edit(0, b"0123456789", b"first answer")
    assert half.native.replace(at(0), b"0123456789", b"second answer") == "seen"
    assert half.send(0, b"0123456789") == [(0, b"first answer")]


def test_a_segment_that_touches_an_edit_is_widened() -> None:
    half = Half()
    half.send(0, b"....")
    half.edit(4, b"abcd", b"REPLACEMENT")
    half.send(8, b"----")
    assert half.send(2, b"..ab") == [(2, b"..REPLACEMENT")]
    assert half.send(6, b"cd--") == [(4, b"REPLACEMENT--")]
    assert half.send(5, b"bc") == [(4, b"REPLACEMENT")]
    assert half.send(0, b"....abcd----") == [(0, b"....REPLACEMENT----")]
    assert half.send(8, b"----") == [(15, b"----")]


def test_an_acknowledgement_within_a_replacement_is_one_before_it() -> None:
    half = Half()
    half.edit(0, b"abcd", b"REPLACEMENT")
    assert [half.acknowledge(ack) for ack in (0, 1, 10, 11)] == [0, 0, 0, 4]
    assert half.native.held == (0, 0)


def test_what_the_receiver_has_of_a_replacement_is_not_sent_again() -> None:
    half = Half()
    half.edit(0, b"abcd", b"REPLACEMENT")
    half.acknowledge(5)
    assert half.send(0, b"abcd") == [(5, b"CEMENT")]


def test_deleted_data_is_acknowledged_by_us() -> None:
    half = Half(window=7)
    assert half.native.replace(at(0), b"gone", b"") == "noted"
    plan = half.plan(0, b"gone")
    assert plan["segments"] == [(ISN, ACK, 0, b"")]
    assert plan["own_ack"] == (at(4), 7)
    assert half.plan(0, b"gone")["own_ack"] == (at(4), 7), "ours may be lost"


def test_deleted_data_behind_others_is_acknowledged_with_them() -> None:
    half = Half()
    half.send(0, b"here")
    assert half.native.replace(at(4), b"gone", b"") == "noted"
    assert half.plan(4, b"gone")["own_ack"] is None
    assert half.acknowledge(4) == 8


def test_sack_blocks_cover_whole_replacements_only() -> None:
    half = Half()
    half.send(0, b"x" * 10)
    half.edit(10, b"abcd", b"0123456789")  # new 10 to 20
    half.send(14, b"y" * 10)  # new 20 to 30
    told = {(10, 20): [(10, 14)], (11, 20): [], (5, 15): [(5, 10)], (15, 25): [(14, 19)], (5, 30): [(5, 24)]}
    for block, expected in told.items():
        _, _, sack = half.native.acknowledge(at(0), 1, [(at(block[0]), at(block[1]))])
        assert sack == [(at(left), at(right)) for left, right in expected], block


def test_duplicates_of_what_is_forgotten_are_not_reported() -> None:
    half = Half()
    half.edit(0, b"abcd", b"0123456789")
    half.send(4, b"more")
    half.acknowledge(10)
    _, _, sack = half.native.acknowledge(at(10), 1, [(at(2), at(5)), (at(12), at(14))])
    assert sack == [(at(6), at(8))]


def test_the_window_leaves_room_for_what_is_added() -> None:
    half = Half(wscale=2)
    half.edit(0, b"x" * 100, b"y" * 300)
    ack, window, _ = half.native.acknowledge(at(0), 100)
    assert (ack, window) == (ISN, 50), "400 bytes, of which 200 are for what is added"
    assert half.native.acknowledge(at(0), 20)[1] == 0
    assert half.native.acknowledge(at(300), 100)[1] == 100


def test_a_window_never_grows() -> None:
    half = Half()
    half.edit(0, b"x" * 100, b"")
    half.send(100, b"more")
    assert half.native.acknowledge(at(0), 100)[1] == 100


def test_old_data_leaves_no_byte() -> None:
    """What became of it is forgotten, and it is not to be seen as it was."""
    half = Half()
    half.edit(0, b"secret", b"******")
    half.send(6, b"more")
    half.acknowledge(6)
    plan = half.plan(0, b"secret")
    assert plan["segments"] == [(at(10), ACK, 0, b"")]
    assert plan["own_ack"] == (at(6), 0xFFFF)
    assert half.send(4, b"etmore") == [(6, b"more")]


@pytest.mark.parametrize("garbage", [b"", b"\0"])
def test_a_keep_alive_reaches_the_receiver(garbage: bytes) -> None:
    half = Half()
    half.edit(0, b"abcd", b"0123456789")
    half.acknowledge(10)
    plan = half.plan(3, garbage)
    assert plan["segments"] == [(at(9), ACK, 0, b"")]
    assert plan["own_ack"] is None


def test_a_reset_is_exact_within_a_replacement() -> None:
    """The sender was told of nothing beyond its start; the receiver takes only what it expects."""
    half = Half()
    half.edit(0, b"abcd", b"REPLACEMENT")
    half.acknowledge(5)
    assert half.send(0, flags=RST) == [(5, b"")]
    assert half.send(4, flags=RST) == [(11, b"")]


def test_segments_beyond_a_hole_are_asked_for_again() -> None:
    half = Half()
    half.send(0, b"here")
    half.native.acknowledge(at(4), 77)
    assert half.native.replace(at(8), b"far", b"x") == "beyond_hole"
    assert half.native.replace(at(5), b"ear", b"x") == "beyond_hole"
    plan = half.plan(8, b"far")
    assert plan["drop"]
    assert plan["own_ack"] == (at(4), 77)
    assert half.edit(4, b"near", b"n") == [(4, b"n")]
    assert half.edit(8, b"far", b"f") == [(5, b"f")]


def test_unordered_segments_pass_and_what_was_missing_stays() -> None:
    half = Half(ordered=False)
    assert half.edit(8, b"far", b"f") == [(8, b"f")]
    assert half.native.replace(at(0), b"12345678", b"x") == "seen"
    assert half.send(0, b"12345678far") == [(0, b"12345678f")]


def test_old_and_new_bytes_in_one_segment() -> None:
    half = Half()
    half.edit(0, b"cat ", b"dogs ")
    assert half.native.replace(at(0), b"cat cat ", b"dogs dogs ") == "noted"
    assert half.send(0, b"cat cat ") == [(0, b"dogs dogs ")]
    assert half.native.replace(at(4), b"cat more", b"birds") == "partly_seen"
    assert half.native.replace(at(2), b"t cat more", b"birds") == "partly_seen"


def test_the_same_bytes_need_no_edit() -> None:
    half = Half()
    assert half.native.replace(at(0), b"same", b"same") == "noted"
    assert half.native.held == (0, 0)


def test_what_has_no_payload_cannot_be_replaced() -> None:
    half = Half()
    assert half.native.replace(at(0), b"", b"x") == "no_payload"
    assert half.native.replace(at(0), b"fast open", b"x", SYN) == "no_payload"
    assert half.native.replace(at(0), b"cut short", b"x", ACK, 3) == "no_payload"


def test_a_cut_segment_that_touches_an_edit_is_dropped() -> None:
    half = Half()
    half.edit(0, b"abcd", b"x")
    assert half.plan(0, b"abcdef", captured=5)["drop"]


def test_segments_are_cut_to_size() -> None:
    half = Half()
    assert half.native.replace(at(0), b"ab", b"0123456789", ACK | FIN) == "noted"
    plan = half.plan(0, b"ab", ACK | PSH | FIN | CWR, most=4)
    assert plan["segments"] == [
        (at(0), ACK | CWR, 0, b"0123"),
        (at(4), ACK, 0, b"4567"),
        (at(8), ACK | PSH | FIN, 0, b"89"),
    ]


def test_urgent_data_stays_where_it_is() -> None:
    half = Half()
    half.edit(0, b"abcd", b"0123456789")
    assert half.plan(4, b"more", ACK | URG, urgent=2)["segments"] == [(at(10), ACK | URG, 2, b"more")]
    plan = half.plan(2, b"cdmore", ACK | URG, urgent=4, most=6)
    assert plan["segments"] == [
        (at(0), ACK | URG, 12, b"012345"),
        (at(6), ACK | URG, 6, b"6789mo"),
        (at(12), ACK | URG, 0, b"re"),
    ]


def test_an_urgent_byte_that_has_been_acknowledged_is_urgent_no_more() -> None:
    """What the receiver has of a replacement is cut off, and the pointer with it, if it lies there."""
    half = Half()
    half.edit(0, b"abcd", b"0123456789")
    half.acknowledge(6)
    sent = {urgent: half.plan(0, b"abcd", ACK | URG, urgent=urgent)["segments"] for urgent in (0, 4)}
    assert sent == {0: [(at(6), ACK, 0, b"6789")], 4: [(at(6), ACK | URG, 4, b"6789")]}


@pytest.mark.parametrize(("urgent", "flags"), [(2, [URG, 0, 0]), (3, [URG, URG, 0]), (5, [URG, URG, 0])])
def test_an_urgent_byte_is_not_told_of_behind_it(urgent: int, flags: list[int]) -> None:
    half = Half()
    assert half.native.replace(at(0), b"12345678", b"abcdefgh") == "noted"
    segments = half.plan(0, b"12345678", ACK | URG, urgent=urgent, most=3)["segments"]
    assert [(each[1] ^ ACK, each[2]) for each in segments] == list(
        zip(flags, (urgent, max(urgent - 3, 0), 0), strict=True)
    )


def test_edits_reach_no_farther_than_a_window() -> None:
    """A sender that goes on though nothing is acknowledged: numbers must stay comparable (RFC 7323 section 2.3)."""
    half = Half(ordered=False)
    half.edit(0, b"abcd", b"x")
    for quarter in range(1, 4):
        half.send(quarter * 2**28 - 4, b"skip")
    assert half.native.replace(at(2**30 - 4), b"12345", b"y") == "budget"
    assert half.native.replace(at(2**30 - 4), b"1234", b"y") == "noted"
    for quarter in range(5, 17):  # once round all numbers, and to where edits are held
        half.send(quarter * 2**28 - 4, b"skip")
    assert half.native.replace(at(100), b"here?", b"no") == "budget"
    assert half.native.held[0] == 2


def test_what_acknowledges_nothing_is_left_as_it_is() -> None:
    half = Half()
    half.edit(0, b"abcd", b"REPLACEMENT")
    for flags in (0, SYN, SYN | ACK):
        assert half.native.acknowledge(at(11), 7, [(at(1), at(2))], flags) == (at(11), 7, [(at(1), at(2))])
    assert half.native.held == (1, 24 + 256)
    assert half.acknowledge(11) == 4


def test_the_budget_of_a_half_holds() -> None:
    half = Half(half_budget=1000)
    assert half.native.replace(at(0), b"x", bytes(2000)) == "budget"
    assert half.send(0, b"x") == [(0, b"x")]
    assert half.native.replace(at(1), b"y", bytes(300)) == "noted"
    assert half.native.replace(at(2), b"z", bytes(600)) == "budget"
    assert half.native.held == (1, 24 + 512)


def test_the_budget_of_all_holds_and_comes_back() -> None:
    half = Half(budget=280 * 4)
    assert half.native.replace(at(0), b"x", bytes(252 * 5)) == "budget"
    assert half.store.in_use == (1, 0, 0)
    assert half.native.replace(at(0), b"x", bytes(252 * 4)) == "noted"
    assert half.native.replace(at(1), b"x", b"y") == "budget"
    half.acknowledge(252 * 4)
    assert half.store.in_use == (1, 0, 0)
    half.native.close()
    assert half.store.in_use == (0, 0, 0)


def test_numbers_may_go_round() -> None:
    """Hundreds of megabytes at a time: the floor follows, and old data is still old."""
    half = Half(ordered=False)
    half.edit(0, b"abcd", b"")
    half.acknowledge(0)
    offset = 4
    for _ in range(40):
        offset += 1 << 27
        half.native.send(at(offset - 10), b"0123456789")
        assert half.native.acknowledge(at(offset - 4), 1)[0] == at(offset)
        assert half.plan(offset - 40, bytes(5))["as_is"]
    assert half.plan(offset - (1 << 30), b"old")["own_ack"]
