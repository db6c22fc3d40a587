"""Finding an app by the name that the command line gives."""

import importlib
import os
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from aiomos.app import App
from aiomos.errors import AppLoadError, did_you_mean

SHIPPED = "aiomos.apps"


def load_app(name: str) -> App:
    """Import the module that a name leads to and take the app from it.

    Args:
        name: ``package.module:attribute``, ``path/to/file.py:attribute``, or either without the attribute,
            which is then ``app``. Modules are looked for in the current directory, among the installed
            packages, and last among the apps that ship with aiomos: ``dump`` is ``aiomos.apps.dump``.

    Raises:
        AppLoadError: there is no such module or file, or no `App` under that attribute.
    """
    place, _, attribute = name.partition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found = getattr(module, attribute or "app", None)
    if isinstance(found, App):
        return found
    apps = sorted(key for key, value in vars(module).items() if isinstance(value, App))
    remedy = (
        f"its apps are: {', '.join(apps)}" if apps else "it has no apps; make one with app = aiomos.App()"
    )
    raise AppLoadError(f"{attribute or 'app'!r} is no App in {place}; {remedy}")


def shipped_apps() -> list[App]:
    """Import the apps that ship with aiomos and list them by name."""
    return [load_app(f"{SHIPPED}.{name}") for name in _shipped_names()]


def _shipped_names() -> list[str]:
    package = importlib.import_module(SHIPPED)
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if not name.startswith("_")]


def _load_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise AppLoadError(f"{name!r} is neither a module, as package.module, nor a file, as path/to/file.py")
    here = os.getcwd()
    _search(here)
    for candidate in (name, f"{SHIPPED}.{name}"):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            # A module that is there and imports one that is missing fails for its own reason, not ours.
            if not f"{candidate}.".startswith(f"{error.name}."):
                raise
    known = [*_shipped_names(), *(path.stem for path in Path(here).glob("*.py"))]
    raise AppLoadError(
        f"no module {name!r} in {here}, among the installed packages or the apps of aiomos"
        f"{did_you_mean(name, known) or '; aiomos apps lists these'}"
    )


def _load_file(path: Path) -> ModuleType:
    """Import a file as the module of its name; what it imports is looked for in its folder first."""
    if not path.is_file():
        beside = [str(path.with_name(other.name)) for other in path.parent.glob("*.py")]
        raise AppLoadError(f"no file {path}{did_you_mean(str(path), beside)}")
    path = path.resolve()
    _search(str(path.parent))
    module = importlib.import_module(path.stem)
    if module.__file__ is None or not path.samefile(module.__file__):
        raise AppLoadError(f"{path}: the name {path.stem!r} belongs to another module; rename the file")
    return module


def _search(folder: str) -> None:
    if folder not in sys.path:
        sys.path.insert(0, folder)
