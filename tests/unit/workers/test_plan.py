"""What workers are told where nothing is said."""

from aiomos.settings import Settings
from aiomos.workers.plan import AppPlan, Plan


def test_a_plan_without_options() -> None:
    """No watchdog: who looks at captures may well be silent for long."""
    plan = Plan(workers=3)
    assert (plan.workers, plan.apps, plan.captures, plan.wire) == (3, (), (), None)
    assert (plan.settings, plan.loop) == (Settings(), "uvloop")
    assert (plan.log_format, plan.log_level) == ("console", "info")
    assert (plan.grace, plan.watchdog) == (10, 0)
    assert AppPlan("flowlog").options == ()
