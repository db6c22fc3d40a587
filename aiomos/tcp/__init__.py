"""TCP: wire format, fragments, flows, both ends' state, reassembly, and the async face of it all."""
