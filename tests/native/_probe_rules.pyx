"""Shows pytest who watches which flow, and how far the look at all flows is for rules that were removed."""

from libc.stdint cimport uint32_t, uint64_t

from aiomos.engine.engine cimport Engine
from aiomos.engine.lifetimes cimport in_table
from aiomos.face.streams cimport MonitorConnection
from aiomos.face.views cimport Flow
from aiomos.tcp.flows cimport FlowRecord, flow_at
from aiomos.ude.rules cimport rules_blocked, rules_watching


def sweep_so_many(Engine engine not None, uint32_t flows):
    """Have no more flows than that looked at in one call."""
    engine.attention.sweep_flows = flows


def swept(Engine engine not None):
    """Return how far a round is, and how far it goes."""
    return engine.attention.swept_to, engine.attention.sweep_end


def blocked(Engine engine not None):
    """Return the rules whose numbers cannot be used though they were removed."""
    return numbers(rules_blocked(&engine.core.rules))


def watched(Engine engine not None):
    """Return by port of each flow in the table: the rules that watch it, levels, whether it has tracks, connections."""
    cdef uint32_t index
    cdef FlowRecord* flow
    cdef Flow view
    found = {}
    for index in range(1, engine.core.flows.pool.high_water + 1):
        flow = flow_at(&engine.core.flows, index)
        if in_table(flow):
            view = engine.holdings.views[flow.hold]
            found[max(flow.key.low_port, flow.key.high_port)] = (
                numbers(rules_watching(&engine.core.rules, flow) & ~engine.core.rules.retired),
                (flow.halves[0].level, flow.halves[1].level), flow.halves[0].track != 0,
                [((<MonitorConnection> each).rule, each) for each in view.connections] if view is not None else [])
    return found


def check_sets(Engine engine not None):
    """Raise where sets, and the counts of the flows that name them, contradict the flows."""
    cdef uint32_t index
    cdef FlowRecord* flow
    counts = [0] * 4097
    for index in range(1, engine.core.flows.pool.high_water + 1):
        flow = flow_at(&engine.core.flows, index)
        if in_table(flow):
            assert flow.watchers < engine.core.rules.set_count
            counts[flow.watchers] += 1
    assert counts == [engine.core.rules.flows[index] for index in range(4097)]
    assert engine.core.rules.sets[0] == 0
    free = [engine.core.rules.free[index] for index in range(engine.core.rules.free_count)]
    assert len(set(free)) == len(free)
    for index in free:
        assert 0 < index < engine.core.rules.set_count
        assert not counts[index] and not engine.core.rules.sets[index]


def sets(Engine engine not None):
    """Return how many sets there are that are not free."""
    return engine.core.rules.set_count - engine.core.rules.free_count


def last_set(Engine engine not None):
    """Return how many flows the last of those watches; None where it is the first."""
    return engine.core.rules.flows[engine.core.rules.set_count - 1] if engine.core.rules.set_count > 1 else None


cdef object numbers(uint64_t mask):
    return frozenset([number for number in range(64) if mask >> number & 1])
