"""What holds for every test: what it leaves behind, what a run is judged by, and how Hypothesis runs."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import engine, providers
from xdist.workermanage import NodeManager

from tests import leftovers, rules

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "repeatable")

# A busy machine is no defect.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=2000, print_blob=True, deadline=None)
settings.load_profile(PROFILE)

# Shrinking, five minutes by default, is to be over before a test's time is.
engine.MAX_SHRINKING_SECONDS = 30
if PROFILE == "repeatable":
    # Hypothesis also draws constants of the modules that happen to be imported. A test would see other examples alone
    # than among others.
    providers.is_local_module_file = lambda _path: False

leftovers.watch_engines()
leftovers.before_any_test()


# A worker that ends writes down what it has counted, for `make coverage`; it is not to be killed meanwhile.
NodeManager.EXIT_TIMEOUT = 120


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(rules)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves something behind, in an engine or in the process."""
    yield from leftovers.left_by_test(request.node.nodeid)
