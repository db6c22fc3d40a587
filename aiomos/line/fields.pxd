# Fields of packets as apps set them.
from libc.stdint cimport uint32_t

# The value of a field that is a number. TypeError and ValueError say what can be set, and to what.
cdef uint32_t number_of(str name, object value) except? 0xFFFFFFFF
# Six bytes of a text such as 02:00:00:00:00:01.
cdef bytes link_address(object text)
