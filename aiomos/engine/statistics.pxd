# What an engine knows of itself.
from aiomos.engine.core cimport Core
from aiomos.engine.intake cimport Intake

cdef list count_flows(Core core, accounts)
cdef dict statistics(Core core, Intake intake)
