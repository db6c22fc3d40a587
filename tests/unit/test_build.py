"""How the modules are built: what many of them have in common, once."""

from pathlib import Path

import aiomos

PACKAGE = Path(aiomos.__file__).parent
COMPILED = sorted(path for path in PACKAGE.rglob("*.so"))


def test_the_class_memoryview_is_compiled_once() -> None:
    """It is 20,000 lines of C in each module that takes one; see SHARED in setup.py."""
    having = [path.name.partition(".")[0] for path in COMPILED if b"_memoryviewslice" in path.read_bytes()]
    assert having == ["_cyutility"]
