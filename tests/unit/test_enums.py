"""What compiled modules number, and others name: name by name, in the same order."""

import re
from pathlib import Path
from typing import get_args

import pytest

import aiomos
from aiomos.app import Overlap
from aiomos.engine.registry import OVERLAPS
from aiomos.face.chunks import GAP_NAMES
from aiomos.face.views import State
from aiomos.tcp.flows import FACT_NAMES, REASON_NAMES
from aiomos.tcp.monitor import ANOMALY_NAMES

PACKAGE = Path(aiomos.__file__).parent


def members(path: str, enum: str) -> dict[str, int]:
    """Read an enum of a .pxd file by what stands behind ``enum`` in its first line."""
    text = (PACKAGE / path).read_text()
    found = re.search(rf"^cp?def enum ?{re.escape(enum)}.*\n((?:    .*\n|\n(?=    ))+)", text, re.MULTILINE)
    assert found, f"{path} has no enum {enum}"
    return {name: int(value) for name, value in re.findall(r"^    (\w+) = (\d+)", found[1], re.MULTILINE)}


@pytest.mark.parametrize(
    ("path", "enum", "prefix", "names"),
    [
        ("tcp/monitor.pxd", ":                     # anomalies", "A_", ANOMALY_NAMES),
        ("tcp/tracks.pxd", ":                     # reasons of a gap", "GAP_", GAP_NAMES),
        ("tcp/pieces.pxd", "Policy:", "OVERLAP_", OVERLAPS),
        ("tcp/flows.pxd", "Reason:", "REASON_", REASON_NAMES),
    ],
)
def test_names_are_those_of_the_enum(path: str, enum: str, prefix: str, names: tuple[str, ...]) -> None:
    numbered = {name.removeprefix(prefix).lower(): value for name, value in members(path, enum).items()}
    numbered.pop("anomalies", None)
    numbered.pop("reasons", None)  # how many there are
    assert numbered == {name: value for value, name in enumerate(names)}


def test_facts_are_named_by_their_bits() -> None:
    facts = {name.lower(): value for name, value in members("tcp/flows.pxd", "Fact:").items()}
    assert facts == {name: 1 << bit for bit, name in enumerate(FACT_NAMES)}


def test_users_have_the_overlap_policies_there_are() -> None:
    assert get_args(Overlap) == OVERLAPS


def test_states_are_numbered_as_users_see_them() -> None:
    others = {"SYN_SENT_STATE": "SYN_SENT", "SYN_RECEIVED_STATE": "SYN_RECEIVED", "STATE_CLOSED": "CLOSED"}
    native = {others.get(name, name): value for name, value in members("tcp/monitor.pxd", "State:").items()}
    assert native == {state.name: state.value for state in State}
