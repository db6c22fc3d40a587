"""A stream that is edited under way arrives as edited, and its sender sees all of it acknowledged."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.edits import Scene

probe = pytest.importorskip("tests.native._probe_edits", reason="needs the native test probes")

u32 = st.integers(0, 2**32 - 1)


@settings(max_examples=400)
@given(seed=st.integers(0, 2**64), ordered=st.booleans(), steps=st.integers(0, 1500))
def test_the_receiver_gets_the_edited_stream(seed: int, ordered: bool, steps: int) -> None:
    Scene(probe, seed, ordered=ordered).run(steps)
