"""What an engine knows of itself: the flows that are open, who watches how many, counters by name."""

from libc.stdint cimport uint32_t, uint64_t, uint8_t

from aiomos.engine.core cimport Core
from aiomos.engine.intake cimport Intake
from aiomos.engine.lifetimes cimport in_table
from aiomos.engine.registry cimport Account
from aiomos.face.views cimport Flow, make_flow, reason_named
from aiomos.tcp.flows cimport ANNOUNCED, FlowRecord, REASON_DROPPED, REASON_FIN, flow_at
from aiomos.ude.rules cimport ANY_SET, MAX_SETS, rules_watching

from aiomos.face.chunks import GAP_NAMES
from aiomos.face.packets import KIND_NAMES
from aiomos.tcp.monitor import ANOMALY_NAMES
from aiomos.wire.protocols import unread_name


def open_flows(Core core):
    """Yield what is known of each flow that has not ended, as a `Flow` that stays as it is."""
    cdef uint32_t index = 1
    cdef FlowRecord* flow
    cdef Flow view
    while index <= core.flows.pool.high_water:
        flow = flow_at(&core.flows, index)
        if in_table(flow) and flow.flags & ANNOUNCED:
            view = make_flow(flow, &core.streams, 0, None, None)
            view.detach()
            yield view
        index += 1


cdef list count_flows(Core core, accounts):
    """How many flows each of several apps watches now.

    They are counted as they come and go; only of those whose set of watchers found no room, the table is looked
    through.

    Args:
        accounts: Of the apps.

    Returns:
        As many numbers.
    """
    cdef uint32_t index
    cdef uint64_t rules
    cdef const FlowRecord* flow
    cdef list odd = []                         # sets for which the table has no room
    if core.rules.flows[MAX_SETS]:
        for index in range(1, core.flows.pool.high_water + 1):
            flow = flow_at(&core.flows, index)
            if in_table(flow) and flow.watchers == ANY_SET:
                odd.append(rules_watching(&core.rules, flow))
    counts = []
    for account in accounts:
        rules = (<Account?> account).rules
        counts.append(sum([core.rules.flows[index] for index in range(core.rules.set_count)
                           if core.rules.sets[index] & rules]) + sum([1 for some in odd if some & rules]))
    return counts


cdef dict statistics(Core core, Intake intake):
    """Counters by name.

    Returns:
        ``frames``; ``wild_times``, of them those whose time was not believed; packets by kind (``tcp``, ``udp``,
        ..., ``malformed.*``); ``anomaly.*``, segments not believed, by why; ``flows`` opened, ``midstream`` of
        them, ``open`` now, ``half_open`` and ``closed`` of those, ``evicted``, ``released_early`` (closed flows
        that made room), ``orphans`` (segments of no flow), ``without_syn`` (of these, of flows whose SYN was not
        seen), ``unwatched`` (SYNs no filter picked),
        ``no_memory``, ``watch_sets_full``; ``gap.*`` and ``gap_bytes.*`` by reason; ``conflicts``; ``copies``;
        ``unconfirmed`` segments around handshakes, ``unconfirmed_bytes`` of them;
        ``unread.*.*``, frames by what of them is not read, ``unread_other``;
        ``defrag.*``; ``in_line.*``; ``held.*``, records in use; ``held_bytes`` and ``kept_bytes``, memory.
    """
    counters = {"frames": intake.frames, "wild_times": intake.wild_times}
    counters.update({name: intake.kinds[i] for i, name in enumerate(KIND_NAMES)})
    counters.update({
        "flows": core.opened, "midstream": core.picked_up, "open": core.flows.table.count,
        "half_open": core.flows.half_open.count, "closed": core.flows.closed.count, "evicted": core.evicted,
        "released_early": core.released_early, "orphans": core.orphans, "without_syn": core.without_syn,
        "unwatched": core.unwatched,
        "no_memory": core.no_memory, "watch_sets_full": core.rules.sets_full,
        "conflicts": core.streams.conflicts, "copies": core.streams.copies,
        "held.flows": core.flows.pool.in_use, "held.tracks": core.streams.tracks.in_use,
        "held.pieces": core.streams.store.count, "held.parts": core.streams.parts.in_use,
        "held.blocks": core.streams.store.blocks.blocks, "held.kept": core.streams.kept.blocks,
        "held_bytes": core.streams.store.blocks.bytes, "held_dropped": core.streams.held_dropped,
        "unconfirmed": core.streams.unconfirmed, "unconfirmed_bytes": core.streams.unconfirmed_bytes,
        "kept_bytes": core.streams.kept_memory, "kept_dropped": core.streams.kept_dropped})
    counters.update({f"ended.{reason_named(<uint8_t> reason)}": core.ended[reason]
                    for reason in range(REASON_FIN, REASON_DROPPED + 1)})
    counters.update({f"anomaly.{name}": core.anomalies[i] for i, name in enumerate(ANOMALY_NAMES)})
    counters.update({f"gap.{name}": core.streams.gaps[i] for i, name in enumerate(GAP_NAMES)})
    counters.update({f"gap_bytes.{name}": core.streams.gap_bytes[i] for i, name in enumerate(GAP_NAMES)})
    counters.update({unread_name(layer, number): count for layer, number, count in intake.unread()})
    counters["unread_other"] = intake.unread_table.other
    counters.update({f"in_line.{name}": value for name, value in core.line.statistics().items()})
    counters.update({f"defrag.{name}": value for name, value in intake.defragmenter.statistics().items()})
    return counters
