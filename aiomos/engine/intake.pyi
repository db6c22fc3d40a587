from typing import final

@final
class Intake: ...
