from typing import final

@final
class Clock: ...
