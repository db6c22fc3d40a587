"""Rules: which registrations watch which flows, and what is to be done for them.

Filters are looked at once, on a flow's first packet. The set of rules that picked it is interned, so that a flow
record names it in two bytes; real traffic has few different sets.
"""

from libc.string cimport memset

from aiomos.levels cimport STATE_LEVEL, STREAM_LEVEL
from aiomos.tcp.flows cimport CLIENT_IS_LOW, MIDSTREAM
from aiomos.ude.machine cimport run_filter
from aiomos.ude.scene cimport Scene
from aiomos.ude.slots cimport SLOTS


cdef void rules_open(Rules* rules) noexcept nogil:
    memset(rules, 0, sizeof(Rules))
    rules.set_count = 1


# --- their numbers --------------------------------------------------------------------------------

cdef uint32_t rules_take(Rules* rules) noexcept nogil:
    """A number for a new rule; MAX_RULES when there is none."""
    cdef uint32_t number = 0
    while number < rules.count and (rules.rules[number].active or rules.retired >> number & 1):
        number += 1
    if number < MAX_RULES:
        memset(&rules.rules[number], 0, sizeof(Rule))
        rules.rules[number].active = True
        rules.count = max(rules.count, number + 1)
    return number


cdef void rules_forget(Rules* rules) noexcept nogil:
    """Take retired rules out of every set, so that their numbers can be used again."""
    cdef uint32_t at
    rules.midstream &= ~rules.retired
    rules.connecting &= ~rules.retired
    rules.reading &= ~rules.retired
    rules.urgent_out &= ~rules.retired
    for at in range(rules.set_count):
        rules.sets[at] &= ~rules.retired           # sets may become equal; that does no harm
    rules.retired = 0
    rules_changed(rules)


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
    if rules.set_count == MAX_SETS:
        rules.sets_full += 1
        return ANY_SET
    rules.sets[rules.set_count] = mask
    join_interests(rules, mask, &rules.interests[rules.set_count])
    rules.set_count += 1
    return <uint16_t> (rules.set_count - 1)


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
