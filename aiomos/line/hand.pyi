from typing import final

@final
class Hand: ...
