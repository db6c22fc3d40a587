"""Steps that are all to be done, whatever one of them raises."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from aiomos.steps import Steps


def take(*errors: BaseException | None, raised: BaseException | None = None) -> tuple[int, list[str]]:
    """Take steps that raise these; how many were begun, and the errors that were logged."""
    steps, begun = Steps(), 0
    with capture_logs() as logs:
        try:
            for error in errors:
                with steps:
                    begun += 1
                    if error is not None:
                        raise error
            assert begun == len(errors)
            steps.conclude(raised)
        finally:
            logged = [repr(log["exc_info"]) for log in logs]
    return begun, logged


def test_without_an_error_nothing_is_raised() -> None:
    assert take(None, None) == (2, [])


def test_the_first_error_is_raised_after_the_last_step() -> None:
    with pytest.raises(ValueError, match="first"):
        take(None, ValueError("first"), KeyError("then"), None)


def test_those_that_are_not_raised_are_logged() -> None:
    steps = Steps()
    with capture_logs() as logs, pytest.raises(ValueError, match="first"):
        for error in (ValueError("first"), KeyError("then")):
            with steps:
                raise error
        steps.conclude()
    assert [repr(log["exc_info"]) for log in logs] == ["KeyError('then')"]


@pytest.mark.parametrize("grave", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_ends_the_program_goes_before_others(grave: BaseException) -> None:
    with pytest.raises(type(grave)):
        take(ValueError(), grave, KeyError())


def test_what_is_on_its_way_goes_on_if_nothing_graver_was_held() -> None:
    assert take(ValueError("held"), raised=SystemExit(3)) == (1, ["ValueError('held')"])
    with pytest.raises(SystemExit):
        take(SystemExit(3), raised=asyncio.CancelledError())


def test_an_error_at_the_end_is_raised_instead_of_one_on_its_way() -> None:
    """As where one is raised while another is handled."""
    with pytest.raises(ValueError, match="held"):
        take(ValueError("held"), raised=KeyError())
