# The numbers of levels.Level, for compiled modules.

cdef enum:
    STATE_LEVEL = 1
    BYTES_LEVEL = 2
    STREAM_LEVEL = 3
