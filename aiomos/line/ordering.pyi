from typing import final

@final
class Ordering: ...
