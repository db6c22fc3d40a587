# Where callbacks can be hung up: an event at a hook.
cdef enum Slot:
    SLOT_RAW = 0               # PKT_IN, before the flow is looked up
    SLOT_PKT_SENDER = 1        # PKT_IN
    SLOT_PKT = 2
    SLOT_OUT = 3               # PKT_OUT
    SLOT_START_SENDER = 4      # CONN_START
    SLOT_START = 5
    SLOT_SETUP = 6             # CONN_SETUP
    SLOT_NEW_DATA = 7          # CONN_NEW_DATA
    SLOT_TEARDOWN = 8          # CONN_TEARDOWN
    SLOT_ERROR = 9             # ERROR
    SLOT_STATE_SENDER = 10     # STATE_CHANGE
    SLOT_STATE = 11
    SLOT_ORPHAN = 12           # ORPHAN
    SLOT_REXMIT = 13           # REXMIT
    SLOT_TIMEOUT = 14          # TIMEOUT
    SLOT_EMITTED = 15          # user-defined events without a base: only ever raised by hand
    SLOT_FRAME = 16            # FRAME
    SLOTS = 17
