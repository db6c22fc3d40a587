"""Loading apps by name."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aiomos.errors import AppLoadError
from aiomos.loader import load_app, shipped_apps

Write = Callable[[str, str], Path]
APPS = (
    '"""Watch things."""\nimport aiomos\napp = aiomos.App("watch")\nother = aiomos.App("other")\nnumber = 3\n'
)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the current directory; what it imports is forgotten again afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(path: str, text: str) -> Path:
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    yield write
    for name in set(sys.modules) - before:
        if not name.startswith("aiomos"):
            del sys.modules[name]


def test_a_module_in_the_current_directory(write: Write) -> None:
    write("loaded_here.py", APPS)
    assert load_app("loaded_here:other").name == "other"


def test_a_module_alone_means_its_app(write: Write) -> None:
    write("loaded_alone.py", APPS)
    assert load_app("loaded_alone").name == load_app("loaded_alone:").name == "watch"


def test_a_module_in_a_package(write: Write) -> None:
    write("loaded_package/__init__.py", "")
    write("loaded_package/inner.py", APPS)
    assert load_app("loaded_package.inner:app").name == "watch"


def test_a_file_and_what_lies_beside_it(write: Write) -> None:
    write("deep/loaded_beside.py", "NAME = 'beside'\n")
    path = write(
        "deep/loaded_file.py", "import aiomos, loaded_beside\napp = aiomos.App(loaded_beside.NAME)\n"
    )
    assert load_app("deep/loaded_file.py").name == "beside"
    assert load_app(f"{path}:app") is load_app("deep/loaded_file.py:app")


def test_a_file_named_like_another_module_is_refused(write: Write) -> None:
    write("json.py", APPS)
    with pytest.raises(AppLoadError, match="rename the file"):
        load_app("json.py:app")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loaded_nowhere", "no module 'loaded_nowhere'"),
        ("loaded_wrong.deeper:app", "no module 'loaded_wrong.deeper'"),
        ("loaded_wrong:missing", "app, other"),
        ("loaded_wrong:number", "app, other"),
        ("loaded_empty", "no apps"),
        ("nowhere.py:app", "no file nowhere.py"),
        ("no module", "neither a module"),
        ("", "neither a module"),
        ("flowlgo", r"no module 'flowlgo' in .*; did you mean 'flowlog'\?"),
        ("Top", "did you mean 'top'"),
        ("loaded_wrnog", "did you mean 'loaded_wrong'"),
        ("loaded_wrnog.py", r"no file loaded_wrnog.py; did you mean 'loaded_wrong.py'\?"),
        ("unlike.anything", "aiomos apps lists these"),
        ("..up", "neither a module"),
    ],
)
def test_a_name_that_leads_to_no_app_says_what_there_is(write: Write, name: str, said: str) -> None:
    write("loaded_wrong.py", APPS)
    write("loaded_empty.py", "")
    with pytest.raises(AppLoadError, match=said):
        load_app(name)


def test_an_import_that_fails_inside_the_module_is_passed_on(write: Write) -> None:
    write("loaded_broken.py", "import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency") as caught:
        load_app("loaded_broken")
    assert not isinstance(caught.value, AppLoadError)


def test_shipped_apps_are_found_by_their_short_names() -> None:
    apps = shipped_apps()
    assert [app.name for app in apps] == [
        *("abacus", "account", "assets", "dump", "firewall", "flowlog", "nat", "rexmit", "top")
    ]
    for app in apps:
        assert load_app(app.module.rpartition(".")[2]) is app
        assert (sys.modules[app.module].__doc__ or "").strip(), f"{app.module} says nothing about itself"
