"""For other compiled modules only: the judgement of times has no Python face."""
