"""How much may be in flight: the algorithms behind one small interface."""
