from typing import final

@final
class Past: ...

@final
class Delivery: ...
