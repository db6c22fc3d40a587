from typing import final

@final
class Passing: ...
