"""Errors: what each is caught as, what it carries, that it survives leaving a process."""

import builtins
import inspect
import pickle

import pytest

from aiomos import errors
from aiomos.errors import (
    AiomosError,
    CaptureError,
    ConnectionEvicted,
    ConnectionReset,
    ConnectionTimedOut,
    EngineBug,
    FilterSyntaxError,
    OutputError,
    StreamGap,
)

FLOW = "10.0.0.1:4242 -> 10.0.0.2:80"
LEAVES = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, AiomosError) and error is not AiomosError
]
EXAMPLES = [
    FilterSyntaxError("unknown word 'prot'", text="tcp prot 80", column=5),
    StreamGap(offset=1000, length=460, reason="acknowledged, never seen", side="client", flow=FLOW),
    ConnectionReset(flow=FLOW),
    CaptureError("record cut short", path="trace.pcap", offset=24, frames=0),
    OutputError.of("flows.jsonl", OSError(28, "No space left on device")),
    EngineBug("hole list not sorted", flow=FLOW),
]


@pytest.mark.parametrize("leaf", LEAVES)
def test_each_leaf_is_one_builtin_that_users_already_catch(leaf: type[AiomosError]) -> None:
    assert leaf.__bases__[0] is AiomosError
    (builtin,) = leaf.__bases__[1:]
    assert getattr(builtins, builtin.__name__) is builtin


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_tree_at_the_top_of_the_module_is_complete(leaf: type[AiomosError]) -> None:
    lines = [line for line in (errors.__doc__ or "").splitlines() if f"── {leaf.__name__} " in line]
    assert len(lines) == 1
    assert f"({leaf.__bases__[1].__name__})" in lines[0]


@pytest.mark.parametrize("leaf", [StreamGap, ConnectionReset, ConnectionTimedOut, ConnectionEvicted])
def test_one_except_covers_all_that_happens_to_a_connection_on_its_way(leaf: type[AiomosError]) -> None:
    assert issubclass(leaf, OSError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickling_keeps_message_and_attributes(error: AiomosError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert getattr(copy, "errno", None) == getattr(error, "errno", None)


@pytest.mark.parametrize("error", [error for error in EXAMPLES if error.flow])
def test_a_message_opens_with_the_flow(error: AiomosError) -> None:
    assert str(error).startswith(f"{FLOW}: ")


def test_an_error_does_not_keep_the_flow_alive() -> None:
    class Flow:
        def __str__(self) -> str:
            return FLOW

    assert ConnectionReset(flow=Flow()).flow == FLOW


@pytest.mark.parametrize("column", [1, 5, 12])
def test_a_filter_error_points_at_its_column(column: int) -> None:
    error = FilterSyntaxError("not understood", text="tcp prot 80", column=column)
    _, text, caret = str(error).splitlines()
    assert text == "  tcp prot 80"
    assert caret.index("^") == len("  ") + column - 1


def test_a_filter_of_several_lines_is_shown_on_one_so_that_the_caret_fits() -> None:
    error = FilterSyntaxError("not understood", text="tcp\n\tprot 80", column=6)
    _, text, caret = str(error).splitlines()
    assert text[caret.index("^") :].startswith("prot")


def test_a_gap_tells_where_how_much_and_why() -> None:
    gap = StreamGap(offset=1000, length=460, reason="past the budget", side="server")
    assert (gap.offset, gap.length, gap.reason, gap.side) == (1000, 460, "past the budget", "server")
    for part in ("1000", "460", "past the budget", "server"):
        assert part in str(gap)


def test_a_capture_error_tells_the_file_and_the_place() -> None:
    error = CaptureError("record cut short", path="trace.pcap", offset=24, frames=7)
    assert (error.path, error.offset, error.frames) == ("trace.pcap", 24, 7)
    for part in ("trace.pcap", "24", "7", "record cut short"):
        assert part in str(error)
