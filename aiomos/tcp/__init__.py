"""What is known of a TCP connection: flows, what both ends have said, reassembly, retransmissions."""
