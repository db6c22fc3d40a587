"""How Hypothesis runs: the same examples every time; ``HYPOTHESIS_PROFILE=explore`` looks for new ones."""

import os

from hypothesis import HealthCheck, settings

# A busy machine is no defect.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", max_examples=2000, print_blob=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
