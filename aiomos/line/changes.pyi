from typing import final

REFUSAL_NAMES: tuple[str, ...]

@final
class Changes: ...
