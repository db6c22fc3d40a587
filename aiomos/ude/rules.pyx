"""Rules: which registrations watch which flows, and what is to be done for them.

Filters are looked at once, on a flow's first packet. The set of rules that picked it is interned, so that a flow
record names it in two bytes; real traffic has few different sets. How many flows of the table name a set is counted:
one that none names any more is free for another.

A rule that is removed leaves all sets at once. Its number is another's only when every flow has been looked at since:
a flow may still have connections of the rule, and more work done on it than those who are left need.
"""

from libc.string cimport memset

from aiomos.levels cimport STATE_LEVEL, STREAM_LEVEL
from aiomos.tcp.flows cimport CLIENT_IS_LOW, MIDSTREAM
from aiomos.ude.machine cimport run_filter
from aiomos.ude.scene cimport Scene
from aiomos.ude.slots cimport SLOTS

cdef enum:
    PLENTY_OF_SETS = MAX_SETS // 2  # beyond so many it is seen to it that there are free ones for the next batch


cdef void rules_open(Rules* rules) noexcept nogil:
    memset(rules, 0, sizeof(Rules))
    rules.set_count = 1


# --- their numbers --------------------------------------------------------------------------------

cdef uint32_t rules_take(Rules* rules) noexcept nogil:
    """A number for a new rule; MAX_RULES when there is none."""
    cdef uint32_t number = free_number(rules)
    if number < MAX_RULES:
        memset(&rules.rules[number], 0, sizeof(Rule))
        rules.rules[number].active = True
        rules.count = max(rules.count, number + 1)
    return number


cdef uint32_t free_number(const Rules* rules) noexcept nogil:
    cdef uint32_t number = 0
    while number < rules.count and (rules.rules[number].active or rules_blocked(rules) >> number & 1):
        number += 1
    return number


cdef bint rules_held_up(const Rules* rules) noexcept nogil:
    """Would there be a number for a new rule if those that were removed were forgotten by all flows?"""
    return rules_blocked(rules) != 0 and free_number(rules) == MAX_RULES


cdef void rules_forget(Rules* rules) noexcept nogil:
    """Take retired rules out of every set. Their numbers stay blocked until a round over all flows has ended."""
    cdef uint32_t at
    rules.midstream &= ~rules.retired
    rules.connecting &= ~rules.retired
    rules.reading &= ~rules.retired
    rules.urgent_out &= ~rules.retired
    for at in range(rules.set_count):
        rules.sets[at] &= ~rules.retired           # sets may become equal: the next round joins them
    rules.forgotten |= rules.retired
    rules.retired = 0
    rules_changed(rules)


cdef void rules_begin_round(Rules* rules) noexcept nogil:
    """A round over all flows begins; rules that are forgotten in its course wait for the next."""
    rules.leaving = rules.forgotten
    rules.forgotten = 0


cdef void rules_end_round(Rules* rules) noexcept nogil:
    """Every flow has been looked at: the numbers of those for whom that was done can be used again."""
    rules.leaving = 0


cdef void rules_changed(Rules* rules) noexcept nogil:
    """Work the interests of all sets out again."""
    cdef uint32_t at
    for at in range(rules.set_count):
        join_interests(rules, rules.sets[at], &rules.interests[at])
    join_interests(rules, ~<uint64_t> 0, &rules.interests[MAX_SETS])


cdef void join_interests(const Rules* rules, uint64_t mask, Interest* joined) noexcept nogil:
    cdef const Interest* one
    cdef uint32_t number
    cdef int slot
    memset(joined, 0, sizeof(Interest))
    for number in range(rules.count):
        if not mask >> number & 1 or not rules.rules[number].active:
            continue
        one = &rules.rules[number].interest
        joined.events |= one.events
        joined.plain |= one.plain
        joined.edits = joined.edits or one.edits
        for slot in range(<int> SLOTS):
            joined.udes[slot] |= one.udes[slot]
            joined.called[slot] |= one.called[slot]


# --- what they pick -------------------------------------------------------------------------------

cdef uint64_t rules_match(const Rules* rules, const FlowKey* key, bint client_is_low, bint midstream) noexcept nogil:
    """The rules whose filter picks a flow; of a pick-up, those that take pick-ups."""
    cdef Scene scene
    cdef uint64_t mask = 0
    cdef uint32_t number
    cdef const Rule* rule
    set_scene(&scene, key, client_is_low)
    for number in range(rules.count):
        rule = &rules.rules[number]
        if (rule.active and rule.follows and rule.code != NULL and (rule.midstream or not midstream)
                and run_filter(rule.code, rule.code_len, &scene)):
            mask |= <uint64_t> 1 << number
    return mask


cdef uint64_t rules_match_packet(const Rules* rules, const FlowKey* key, bint client_is_low,
                                 int slot) noexcept nogil:
    """The rules that wait at a slot where there is no flow, and whose filter picks the packet."""
    cdef Scene scene
    cdef uint64_t mask = 0
    cdef uint32_t number
    cdef const Rule* rule
    set_scene(&scene, key, client_is_low)
    for number in range(rules.count):
        rule = &rules.rules[number]
        if (rule.active and rule.code != NULL and rule.interest.events >> slot & 1
                and run_filter(rule.code, rule.code_len, &scene)):
            mask |= <uint64_t> 1 << number
    return mask


cdef void set_scene(Scene* scene, const FlowKey* key, bint client_is_low) noexcept nogil:
    memset(scene, 0, sizeof(Scene))
    scene.key = key
    scene.client_is_low = client_is_low


cdef uint64_t rules_watching(const Rules* rules, const FlowRecord* flow) noexcept nogil:
    if flow.watchers != ANY_SET:
        return rules.sets[flow.watchers]
    return rules_match(rules, &flow.key, (flow.flags & CLIENT_IS_LOW) != 0, (flow.flags & MIDSTREAM) != 0)


cdef uint16_t rules_intern(Rules* rules, uint64_t mask) noexcept nogil:
    """The index of a watch set; few differ, so a look through them is short."""
    cdef uint32_t at
    for at in range(rules.set_count):
        if rules.sets[at] == mask:
            return <uint16_t> at
    if rules.free_count:
        rules.free_count -= 1
        at = rules.free[rules.free_count]
    elif rules.set_count < MAX_SETS:
        at = rules.set_count
        rules.set_count += 1
        rules.sets_wanted = rules.sets_wanted or at >= PLENTY_OF_SETS
    else:
        rules.sets_full += 1
        rules.sets_wanted = True
        return ANY_SET
    rules.sets[at] = mask
    join_interests(rules, mask, &rules.interests[at])
    return <uint16_t> at


cdef void rules_reclaim(Rules* rules) noexcept nogil:
    """Free the sets that no flow watches.

    Not while flows have ended of which apps are yet to be told: they still name their set, and are no longer counted.
    """
    cdef uint32_t at
    rules.sets_wanted = False
    rules.free_count = 0
    while rules.set_count > 1 and not rules.flows[rules.set_count - 1]:
        rules.set_count -= 1
    for at in range(rules.set_count - 1, 0, -1):
        if not rules.flows[at]:
            rules.sets[at] = 0                     # nobody finds it: the first set is empty, too
            rules.free[rules.free_count] = <uint16_t> at
            rules.free_count += 1


cdef Need rules_need(const Rules* rules, uint64_t mask, uint64_t told) noexcept nogil:
    """What the rules of *mask* need; those of them that were *told* of the flow take its bytes."""
    cdef Need need
    cdef uint32_t number
    cdef bint first = True
    cdef const Rule* rule
    memset(&need, 0, sizeof(Need))
    need.level = STATE_LEVEL
    for number in range(rules.count):
        rule = &rules.rules[number]
        if not mask >> number & 1 or not rule.active:
            continue
        need.level = max(need.level, rule.level)
        if rule.keeps:
            need.keep = True
        if rule.level == STREAM_LEVEL and (rule.connects or rule.keeps):
            if first:
                need.overlap = rule.overlap
                first = False
            if rule.connects and told >> number & 1:
                need.sink = True
    return need
