# The registry of an engine: its apps, what they wait for, and the tree of events of each slot.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from aiomos.ude.machine cimport PredicateSet
from aiomos.ude.rules cimport Rules
from aiomos.ude.slots cimport SLOTS

cdef enum:
    SAMPLED = 64               # one call in so many is timed

cdef enum:                     # what a function asks for, in the order of ASKED
    ASKS_PKT = 0
    ASKS_FLOW = 1
    ASKS_HALF = 2
    ASKS_SIDE = 3
    ASKS_TIME = 4
    ASKS_EVENT = 5
    ASKS_ENGINE = 6

cdef int encode(object parameters, uint8_t* codes) except -1

cdef class Account:
    cdef readonly str name
    cdef readonly uint32_t order       # among the apps of the engine, from client to server
    cdef readonly uint64_t callbacks   # calls made
    cdef readonly uint64_t errors      # exceptions in them
    cdef readonly uint64_t bytes       # handed to its streams
    cdef int64_t sampled_ns
    cdef uint64_t rules                # its rules
    cdef readonly list calls
    cdef readonly bint detached        # nothing can be registered on it any more

cdef class Call:
    cdef readonly Account account
    cdef readonly object event         # Event or UserEvent
    cdef readonly object function      # None: starts a handler, or stands for the calls of single connections
    cdef Node node
    cdef uint64_t rule_bit
    cdef uint32_t rule
    cdef int starts                    # rule whose handlers it starts, or -1
    cdef uint8_t codes[8]              # what it asks for
    cdef int count
    cdef readonly bint active
    cdef bint edits                    # it may replace payload: declared, read from its code, or seen
    cdef bint declared                 # its app has said whether it does

cdef class Node:
    cdef object event                  # UserEvent; None at the root
    cdef Node parent
    cdef int slot
    cdef int bit                       # in Moment.fired; -1 at the root
    cdef list children
    cdef list calls                    # in the order of registration
    cdef list back_calls               # apps the other way round, for packets from the server
    cdef object predicate              # to be asked in Python; None where the machine judges
    cdef uint8_t codes[8]
    cdef int count
    cdef Account account               # whose view of the flow the predicate sees; at the root, which has none, None

cdef Call new_call(Account account, object event, object function, object parameters, Node node, uint32_t rule)

cdef class Registry:
    cdef object __weakref__
    cdef Rules rules
    cdef list accounts
    cdef list rule_accounts            # by rule: whose it is,
    cdef list filters                  # its Program, or None,
    cdef list openers                  # and what makes its connections, or None
    cdef list roots                    # Node by slot
    cdef list judges                   # Predicates by slot, or None
    cdef const PredicateSet* programs[SLOTS]  # the same for TCP processing; NULL where there is none
    cdef dict nodes                    # by (UserEvent, slot)
    cdef bint chatty                   # callbacks are to be made for every packet

    cdef bint may_edit(self, int slot, function, parameters) except -1
    cdef int note_edits(self, Call call) except -1
    cdef Account owner(self, uint32_t rule)
    cdef Node node_of(self, object event, int slot, Account account)
    cdef int refresh(self) except -1
    cdef int prune(self) except -1
    cdef int rebuild(self, int slot) except -1
    cdef void watch_errors(self, bint watched) noexcept
