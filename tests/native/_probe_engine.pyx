"""What an engine still holds: its pools, tables and lists, by name."""

from libc.stdint cimport INT64_MAX

from aiomos.engine.engine cimport Engine
from aiomos.engine.flow_timers cimport Timer
from aiomos.line.sessions cimport sessions_count
from aiomos.tcp.tracks cimport track_open


def left(Engine engine not None):
    """Return what is not at zero of all that flows, their bytes and their packets take from it.

    Fragments whose datagram will never be whole are given up first: an engine does so when the next one comes.
    """
    engine.intake.defragmenter.expire(INT64_MAX)
    counts = {
        "flow records": engine.core.flows.pool.in_use,
        "flows": engine.core.flows.table.count,
        "half-open flows": engine.core.flows.half_open.count,
        "closed flows": engine.core.flows.closed.count,
        "SYNs that wait": engine.core.flows.pending.in_use,
        "tracks": engine.core.streams.tracks.in_use,
        "parts": engine.core.streams.parts.in_use,
        "gaps remembered": engine.core.streams.missed.in_use,
        "held pieces": engine.core.streams.store.count,
        "held blocks": engine.core.streams.store.blocks.blocks,
        "bytes of held pieces": engine.core.streams.store.bytes,
        "bytes of doubted segments": engine.core.streams.doubted_memory,
        "kept blocks": engine.core.streams.kept.blocks,
        "kept bytes": engine.core.streams.kept_memory,
        "halves of which bytes are kept": engine.core.streams.keepers_head,
        "disturbed halves": engine.core.streams.disturbed,
        "incidents": engine.core.streams.incident_count,
        "views": sum([view is not None for view in engine.holdings.views or ()]),
        "last views": len(engine.holdings.passing or ()),
        "signals": engine.core.signal_count,
        "datagrams in fragments": engine.intake.defragmenter.table.datagrams,
        "bytes of fragments": engine.intake.defragmenter.table.memory,
        "sessions": sessions_count(&engine.core.line.translation.sessions),
        "session records": engine.core.line.translation.sessions.pool.in_use,
        "session handles": sum([handle is not None for handle in engine.core.line.translation.handles or ()]),
        "edited halves": engine.core.line.paths.edits.halves.in_use,
        "edits": engine.core.line.paths.edits.edits.in_use,
        "blocks of edits": engine.core.line.paths.edits.blocks.in_use,
        "bytes of frames that wait": engine.core.line.paths.waiting_bytes,
        "frames to be sent": engine.core.outlet.count,
        "timers of flows": count_timers(engine),
        "frames held": engine.intake.holds_frame,
    }
    return {name: count for name, count in counts.items() if count}


cdef int count_timers(Engine engine):
    """Those that are still to run out, for a flow."""
    cdef Timer timer
    cdef int count = 0
    for _, _, timer in engine.flow_timers.timers:
        count += timer.active and timer.view is not None
    return count


def leak(Engine engine not None):
    """Take a record, and give it to nobody."""
    track_open(&engine.core.streams, NULL)


def let_apps_decide(Engine engine not None):
    """As where the engine is an end of the connections, and forwards nothing."""
    engine.core.outlet.decides = True
    return engine.core.outlet.may_send, engine.core.outlet.forwards
