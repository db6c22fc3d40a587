"""What leaves: the packet in hand, verdicts on it, edited halves, sessions of rewritten addresses."""
