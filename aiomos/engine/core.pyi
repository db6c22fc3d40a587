from typing import final

@final
class Core: ...
