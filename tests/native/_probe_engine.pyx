"""What an engine still holds: its pools, tables and lists, by name."""

from libc.stdint cimport INT64_MAX

from aiomos.engine.callbacks cimport Timer
from aiomos.engine.engine cimport Engine
from aiomos.line.sessions cimport sessions_count
from aiomos.tcp.reassembly cimport track_open


def left(Engine engine not None):
    """Return what is not at zero of all that flows, their bytes and their packets take from it.

    Fragments whose datagram will never be whole are given up first: an engine does so when the next one comes.
    """
    engine.defragmenter.expire(INT64_MAX)
    counts = {
        "flow records": engine.flows.pool.in_use,
        "flows": engine.flows.table.count,
        "half-open flows": engine.flows.half_open.count,
        "closed flows": engine.flows.closed.count,
        "SYNs that wait": engine.flows.pending.in_use,
        "tracks": engine.streams.tracks.in_use,
        "parts": engine.streams.parts.in_use,
        "gaps remembered": engine.streams.missed.in_use,
        "held pieces": engine.streams.store.count,
        "held blocks": engine.streams.store.blocks.blocks,
        "bytes of held pieces": engine.streams.store.bytes,
        "bytes of doubted segments": engine.streams.doubted_memory,
        "kept blocks": engine.streams.kept.blocks,
        "kept bytes": engine.streams.kept_memory,
        "halves of which bytes are kept": engine.streams.keepers_head,
        "disturbed halves": engine.streams.disturbed,
        "incidents": engine.streams.incident_count,
        "views": sum([view is not None for view in engine.views or ()]),
        "last views": len(engine.passing or ()),
        "signals": engine.signal_count,
        "datagrams in fragments": engine.defragmenter.table.datagrams,
        "bytes of fragments": engine.defragmenter.table.memory,
        "sessions": sessions_count(&engine.outlet.sessions),
        "session records": engine.outlet.sessions.pool.in_use,
        "session handles": sum([handle is not None for handle in engine.outlet.handles or ()]),
        "edited halves": engine.outlet.edits.halves.in_use,
        "edits": engine.outlet.edits.edits.in_use,
        "blocks of edits": engine.outlet.edits.blocks.in_use,
        "bytes of frames that wait": engine.outlet.waiting_bytes,
        "frames to be sent": engine.outlet.count,
        "timers of flows": count_timers(engine),
        "frames held": engine.holds_frame,
    }
    return {name: count for name, count in counts.items() if count}


cdef int count_timers(Engine engine):
    """Those that are still to run out, for a flow."""
    cdef Timer timer
    cdef int count = 0
    for _, _, timer in engine.timers:
        count += timer.active and timer.view is not None
    return count


def leak(Engine engine not None):
    """Take a record, and give it to nobody."""
    track_open(&engine.streams, NULL)
