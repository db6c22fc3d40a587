"""Rules: which registrations watch which flows.

Filters are looked at once, on a flow's first packet. The set of rules that picked it is interned, so that a flow
record names it in two bytes; real traffic has few different sets.
"""

from libc.string cimport memset

from aiomos.tcp.flows cimport CLIENT_IS_LOW, MIDSTREAM
from aiomos.ude.machine cimport FilterContext, run_filter

cdef enum:
    PROTO_TCP = 6
    STATE_LEVEL = 1
    STREAM_LEVEL = 3


cdef void rules_open(Rules* rules) noexcept nogil:
    memset(rules, 0, sizeof(Rules))
    rules.set_count = 1


cdef uint64_t rules_match(const Rules* rules, const FlowKey* key, bint client_is_low, bint midstream) noexcept nogil:
    """The rules whose filter picks a flow; of a pick-up, those that take pick-ups."""
    cdef FilterContext context
    cdef uint64_t mask = 0
    cdef uint32_t number
    cdef const Rule* rule
    context.client = key.low if client_is_low else key.high
    context.server = key.high if client_is_low else key.low
    context.client_port = key.low_port if client_is_low else key.high_port
    context.server_port = key.high_port if client_is_low else key.low_port
    context.vlan = key.vlan
    context.ip_version = key.ip_version
    context.proto = PROTO_TCP
    for number in range(rules.count):
        rule = &rules.rules[number]
        if rule.active and (rule.midstream or not midstream) and run_filter(rule.code, rule.code_len, &context):
            mask |= <uint64_t> 1 << number
    return mask


cdef uint64_t rules_watching(const Rules* rules, const Flow* flow) noexcept nogil:
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
        return ANY_SET
    rules.sets[rules.set_count] = mask
    rules.set_count += 1
    return <uint16_t> (rules.set_count - 1)


cdef Need rules_need(const Rules* rules, uint64_t mask, uint64_t told) noexcept nogil:
    """What the rules of *mask* need; those of them that were *told* of the flow take its bytes."""
    cdef Need need
    cdef uint32_t number
    cdef bint first = True
    cdef const Rule* rule
    need.level = STATE_LEVEL
    need.overlap = 0
    need.sink = False
    for number in range(rules.count):
        if not mask >> number & 1:
            continue
        rule = &rules.rules[number]
        need.level = max(need.level, rule.level)
        if rule.connects and rule.level == STREAM_LEVEL:
            if first:
                need.overlap = rule.overlap
                first = False
            if told >> number & 1:
                need.sink = True
    return need
