"""Sequence numbers: which is later, and by how much, wherever they are on their circle."""

import pytest

probe = pytest.importorskip("tests.native._probe_wire", reason="needs the native test probes")

HALF = 1 << 31
EDGES = [0, 1, 2, 0x1000, HALF - 1, HALF, HALF + 1, 2 * HALF - 0x1000, 2 * HALF - 2, 2 * HALF - 1]


@pytest.mark.parametrize("a", EDGES)
@pytest.mark.parametrize("ahead", [0, 1, 1460, HALF - 1, HALF, HALF + 1, 2 * HALF - 1460, 2 * HALF - 1])
def test_the_nearer_way_round_tells_which_is_later(a: int, ahead: int) -> None:
    b = (a + ahead) % (2 * HALF)
    distance = ahead if ahead < HALF else ahead - 2 * HALF
    expected = (-distance if distance != -HALF else -HALF, distance > 0 or distance == -HALF, distance >= 0)
    assert probe.compare_sequence(a, b) == (*expected, a if -HALF < distance < 0 else b)
