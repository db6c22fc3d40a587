"""Neighbours at each bound: questions, waiting frames, room, ageing, and who is believed."""

import pytest

probe = pytest.importorskip("tests.native._probe_neighbours", reason="needs the native test probes")

SECOND = 10**9
T0 = 1_700_000_000 * SECOND
A, B, C = (0, "192.0.2.1"), (0, "192.0.2.2"), (0, "fe80::1")
MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
KEY = bytes(range(16))


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(number: int, size: int = 60) -> bytes:
    return b"\xee" * 6 + number.to_bytes(2) * (size // 2 - 3)


class Neighbours:
    """A table and its time, in seconds from T0."""

    def __init__(self, capacity: int = 16, frame_bytes: int = 1 << 20) -> None:
        self.table = probe.Table(capacity, KEY, frame_bytes)
        self.now = T0

    def find(self, who: tuple[int, str] = A, data: bytes | None = None, **how: int) -> tuple[str, str | None]:
        return self.table.find(*who, self.now, data, **how)

    def told(
        self,
        who: tuple[int, str] = A,
        mac: str | None = MAC,
        *,
        solicited: bool = True,
        override: bool = True,
        router: bool = False,
    ) -> None:
        octets_ = None if mac is None else octets(mac)
        self.table.told(*who, octets_, solicited, override, router, self.now)

    def heard(self, who: tuple[int, str] = A, mac: str = MAC, *, make: bool = False) -> None:
        self.table.heard(*who, octets(mac), make, self.now)

    def state(self, who: tuple[int, str] = A) -> str | None:
        found = self.table.state(*who)
        self.table.check()
        return found and found[0]

    def at(self, seconds: float) -> list[tuple[object, ...]]:
        """Let time pass as it would: whatever is due at its time. What was called for."""
        end = T0 + round(seconds * SECOND)
        while (due := self.table.next_due) is not None and due <= end:
            self.now = due
            self.table.pass_time(due)
        self.now = end
        return self.table.take_log()

    def resolved(self) -> "Neighbours":
        self.find()
        self.told()
        self.table.take_log()
        return self

    def stale(self) -> "Neighbours":
        self.heard(make=True)
        return self


@pytest.fixture
def neighbours() -> Neighbours:
    return Neighbours()


def test_who_is_unknown_is_asked_three_times_a_second_apart(neighbours: Neighbours) -> None:
    assert neighbours.find(data=frame(1), source=7) == ("waits", None)
    asked = [("ask", *A, None, 7)]
    assert neighbours.at(0.999999999) == asked
    for second in (1, 2):
        assert neighbours.find() == ("waits", None)  # asks no more often
        assert neighbours.at(second) == asked
    assert neighbours.at(2.999999999) == []
    assert neighbours.state() == "incomplete"
    assert neighbours.at(3) == [("give back", *A, frame(1), None)]
    assert (neighbours.state(), neighbours.table.counters["failed"]) == ("failed", 1)


def test_who_has_failed_is_refused_for_a_second_and_then_asked_anew(neighbours: Neighbours) -> None:
    neighbours.find()
    neighbours.at(3.9)
    assert neighbours.find(data=frame(1)) == ("gone", None)
    assert neighbours.at(3.999999999) == []
    assert neighbours.at(4) == []
    assert (neighbours.state(), neighbours.table.next_due) == (None, None)
    assert neighbours.find() == ("waits", None)
    assert neighbours.at(4) == [("ask", *A, None, 0)]


def test_an_answer_after_all_is_taken(neighbours: Neighbours) -> None:
    neighbours.find()
    neighbours.at(3.5)
    neighbours.told()
    assert neighbours.find() == ("known", MAC)
    assert neighbours.state() == "reachable"


@pytest.mark.parametrize("frames", range(6))
def test_the_last_three_frames_wait(neighbours: Neighbours, frames: int) -> None:
    for number in range(frames):
        assert neighbours.find(data=frame(number)) == ("waits", None)
    neighbours.find()
    neighbours.table.take_log()
    neighbours.told()
    left = [("send", *A, octets(MAC) + frame(n)[6:], None) for n in range(max(frames - 3, 0), frames)]
    assert neighbours.table.take_log() == left
    assert neighbours.table.counters["overflowed"] == max(frames - 3, 0)
    assert neighbours.table.check() == (1, 0)


def test_a_super_segment_waits_as_one(neighbours: Neighbours) -> None:
    neighbours.find(data=frame(1, 60_000), gso_size=1400)
    neighbours.table.take_log()
    neighbours.told()
    assert neighbours.table.take_log() == [("send", *A, octets(MAC) + frame(1, 60_000)[6:], 1400)]


def test_a_frame_is_kept_up_to_a_length_and_as_long_as_there_is_room() -> None:
    neighbours = Neighbours(capacity=64, frame_bytes=0)
    longest = probe.LONGEST_FRAME
    assert neighbours.find(data=bytes(longest + 1)) == ("gone", None)
    verdicts = [neighbours.find((0, f"192.0.2.{n}"), bytes(longest))[0] for n in range(12)]
    assert verdicts == ["waits"] * 10 + ["gone"] * 2
    assert neighbours.table.counters["overflowed"] == 3
    neighbours.at(3)
    assert neighbours.table.check()[1] == 0


def test_a_frame_too_short_for_a_header_is_left_alone(neighbours: Neighbours) -> None:
    neighbours.find(data=bytes(13))
    neighbours.told()
    assert neighbours.table.take_log()[-1] == ("send", *A, bytes(13), None)


def test_reachable_for_half_to_one_and_a_half_of_30_seconds() -> None:
    """RFC 4861 section 6.3.2; each for another time."""
    times = set()
    for number in range(200):
        neighbours = Neighbours()
        neighbours.table = probe.Table(16, number.to_bytes(16, "big"))
        neighbours.resolved()
        times.add(neighbours.table.next_due - T0)
        assert neighbours.at((neighbours.table.next_due - T0 - 1) / SECOND) == []
    assert len(times) > 150
    assert 15 * SECOND <= min(times) < 17 * SECOND
    assert 43 * SECOND < max(times) < 45 * SECOND


def test_stale_until_used_then_probed_by_unicast(neighbours: Neighbours) -> None:
    neighbours.resolved()
    assert neighbours.at(86_400) == []
    assert (neighbours.state(), neighbours.table.next_due) == ("stale", None)
    assert neighbours.find(source=5) == ("known", MAC)
    assert neighbours.state() == "delay"
    assert neighbours.at(86_404.999) == []
    assert neighbours.at(86_405) == [("ask", *A, MAC, 5)]
    assert neighbours.state() == "probe"
    assert neighbours.find() == ("known", MAC)
    assert neighbours.at(86_407) == [("ask", *A, MAC, 5)] * 2
    assert neighbours.at(86_408) == []
    assert neighbours.table.state(*A) == ("failed", None, False)


@pytest.mark.parametrize("confirmed", ["delay", "probe"])
def test_an_upper_layer_confirms(neighbours: Neighbours, confirmed: str) -> None:
    neighbours.stale().find()
    neighbours.at(5 if confirmed == "probe" else 4)
    assert neighbours.state() == confirmed
    neighbours.table.confirm(*A, neighbours.now)
    assert neighbours.state() == "reachable"
    assert neighbours.at(15) == []


def test_what_is_not_known_is_not_confirmed(neighbours: Neighbours) -> None:
    neighbours.table.confirm(*A, T0)
    assert neighbours.state() is None
    neighbours.find()
    neighbours.table.confirm(*A, T0)
    assert neighbours.state() == "incomplete"


def test_nothing_unsolicited_makes_an_entry(neighbours: Neighbours) -> None:
    neighbours.told()
    neighbours.told(solicited=False)
    neighbours.heard()
    assert neighbours.table.check() == (0, 0)


def test_who_asks_us_is_known_but_not_proven(neighbours: Neighbours) -> None:
    """RFC 4861 section 7.2.3, RFC 826."""
    neighbours.heard(make=True)
    assert neighbours.state() == "stale"
    assert neighbours.find() == ("known", MAC)


def test_hearsay_resolves_what_is_asked_for(neighbours: Neighbours) -> None:
    neighbours.find(data=frame(1))
    neighbours.table.take_log()
    neighbours.heard()
    assert neighbours.table.take_log() == [("send", *A, octets(MAC) + frame(1)[6:], None)]
    assert neighbours.state() == "delay"  # it is used, and not yet proven


# RFC 4861 section 7.2.5 and the table of its appendix C: state before, what is told, state and MAC address after.
TOLD = [
    ("reachable", {"mac": OTHER, "solicited": False, "override": False}, "stale", MAC),
    ("reachable", {"mac": OTHER, "solicited": True, "override": False}, "stale", MAC),
    ("reachable", {"mac": OTHER, "solicited": False}, "stale", OTHER),
    ("reachable", {"mac": OTHER}, "reachable", OTHER),
    ("reachable", {"solicited": False, "override": False}, "reachable", MAC),
    ("stale", {"mac": OTHER, "solicited": True, "override": False}, "stale", MAC),
    ("stale", {"mac": OTHER, "solicited": False}, "stale", OTHER),
    ("stale", {"mac": OTHER}, "reachable", OTHER),
    ("stale", {"override": False}, "reachable", MAC),
    ("stale", {"solicited": False, "override": False}, "stale", MAC),
    ("stale", {"mac": None, "override": False}, "reachable", MAC),
    ("delay", {"mac": OTHER, "solicited": False, "override": False}, "delay", MAC),
    ("delay", {"solicited": False}, "delay", MAC),
    ("delay", {"mac": OTHER, "solicited": False}, "stale", OTHER),
    ("probe", {"mac": OTHER, "solicited": True, "override": False}, "probe", MAC),
    ("probe", {"mac": None, "override": False}, "reachable", MAC),
    ("probe", {"solicited": False}, "probe", MAC),
    ("incomplete", {"mac": None}, "incomplete", None),
    ("incomplete", {"override": False}, "reachable", MAC),
    ("incomplete", {"solicited": False, "override": False}, "stale", MAC),
    ("failed", {"mac": None}, "failed", None),
    ("failed", {"solicited": False}, "stale", MAC),
    ("stale", {"mac": "03:00:00:00:00:01"}, "stale", MAC),  # of a group
    ("incomplete", {"mac": "ff:ff:ff:ff:ff:ff"}, "incomplete", None),
    ("incomplete", {"mac": "00:00:00:00:00:00"}, "incomplete", None),
]  # fmt: skip


@pytest.mark.parametrize(("before", "what", "after", "mac"), TOLD)
def test_what_an_advertisement_changes(
    neighbours: Neighbours, before: str, what: dict[str, object], after: str, mac: str | None
) -> None:
    if before == "reachable":
        neighbours.resolved()
    elif before in ("incomplete", "failed"):
        neighbours.find()
        neighbours.at(3 if before == "failed" else 0)
    else:
        neighbours.stale()
        if before != "stale":
            neighbours.find()
        neighbours.at(5 if before == "probe" else 0)
    assert neighbours.state() == before
    neighbours.told(router=True, **what)  # type: ignore[arg-type]
    assert neighbours.table.state(*A)[:2] == (after, mac)
    neighbours.table.check()


def test_hearsay_moves_a_neighbour(neighbours: Neighbours) -> None:
    neighbours.resolved().heard(mac=OTHER)
    assert neighbours.table.state(*A) == ("stale", OTHER, False)
    for useless in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"):
        neighbours.heard(mac=useless, make=True)
        neighbours.heard(B, useless, make=True)
    assert neighbours.table.state(*A) == ("stale", OTHER, False)
    assert neighbours.state(B) is None


def test_a_router_says_that_it_is_one(neighbours: Neighbours) -> None:
    neighbours.find()
    neighbours.told(router=True)
    assert neighbours.table.state(*A)[2] is True
    neighbours.told(mac=None)
    assert neighbours.table.state(*A)[2] is False


def test_links_are_apart(neighbours: Neighbours) -> None:
    neighbours.resolved()
    assert neighbours.find((1, A[1])) == ("waits", None)


def test_the_oldest_stale_makes_way() -> None:
    neighbours = Neighbours(capacity=3)
    for number in (1, 2, 3, 2, 4):
        neighbours.heard((0, f"192.0.2.{number}"), make=True)
    assert [neighbours.state((0, f"192.0.2.{number}")) for number in range(1, 5)] == [None] + ["stale"] * 3
    assert neighbours.table.counters["evicted"] == 1


def test_who_has_failed_makes_way_first() -> None:
    neighbours = Neighbours(capacity=2)
    neighbours.find(B)
    neighbours.at(3)
    neighbours.heard(A, make=True)
    neighbours.heard(C, make=True)
    assert [neighbours.state(who) for who in (A, B, C)] == ["stale", None, "stale"]


def test_who_is_in_use_does_not_make_way() -> None:
    neighbours = Neighbours(capacity=1).resolved()
    neighbours.heard(B, make=True)
    assert neighbours.find(B) == ("gone", None)
    assert (neighbours.state(), neighbours.table.counters["full"]) == ("reachable", 2)


def test_a_scan_takes_half_of_the_table() -> None:
    neighbours = Neighbours(capacity=8)
    neighbours.heard(A, make=True)
    verdicts = [neighbours.find((0, f"198.51.100.{number}"))[0] for number in range(20)]
    assert verdicts == ["waits"] * 4 + ["gone"] * 16
    assert neighbours.state() == "stale"
    assert len(neighbours.at(0)) == 4


def test_many_neighbours_are_found_again() -> None:
    neighbours = Neighbours(capacity=4096)
    for number in range(5000):
        neighbours.heard((0, f"10.0.{number >> 8}.{number & 255}"), make=True)
    assert neighbours.table.check() == (4096, 0)
    known = [neighbours.state((0, f"10.0.{n >> 8}.{n & 255}")) is not None for n in (0, 903, 904, 4999)]
    assert known == [False, False, True, True]


def test_all_are_forgotten_and_what_waits_is_given_back(neighbours: Neighbours) -> None:
    neighbours.resolved()
    neighbours.find(B, frame(1))
    neighbours.heard(C, make=True)
    neighbours.table.take_log()
    neighbours.table.clear()
    assert neighbours.table.take_log() == [("give back", *B, frame(1), None)]
    assert (neighbours.table.check(), neighbours.table.next_due) == ((0, 0), None)
    assert neighbours.find() == ("waits", None)
