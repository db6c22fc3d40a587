"""The documentation: complete, and every snippet run."""

import doctest
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import aiomos
from aiomos.face.streams import Stream
from aiomos.runtime.handlers import PATH_ERRORS
from aiomos.runtime.runtime import Runtime
from aiomos.transport import packet, ports
from aiomos.wire.protocols import READ, Layer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SESSIONS = DOCS / "examples" / "sessions"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^((?:<!-- .* -->\n)?)```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

PAPER = """
MOS_SOCKET_STREAM MOS_SOCKET_MONITOR MOS_SOCKET_PROXY MOS_SOCKET_MONITOR_LISTEN MOS_SOCKET_PROXY_LISTEN
MOS_ON_PKT_IN MOS_ON_PKT_OUT MOS_ON_CONN_SETUP MOS_ON_CONN_TEARDOWN MOS_ON_CONN_NEW_DATA MOS_ON_ERROR
MOS_ON_SYN MOS_ON_PKT_RTX MOS_ON_HTTP MOS_ON_FTP
MOS_EPOLL_IN MOS_EPOLL_OUT MOS_EPOLL_IN_CLT MOS_EPOLL_IN_SVR MOS_EPOLL_OUT_CLT MOS_EPOLL_OUT_SVR
mtcp_socket() mtcp_bind_connfilter() mtcp_activate_monitor() mtcp_activate_proxy() mtcp_accept() mtcp_read()
mtcp_write() mtcp_close() mos_define_ude() mos_undefine_ude() mos_register_callback()
mos_unregister_callback() mtcp_epoll_create() mtcp_epoll_ctl() mtcp_epoll_wait()
mtcp_register_callback() MOS_POST_TCP mtcp_peek() mtcp_get_uctx() mtcp_set_uctx() mtcp_get_thread_id()
mtcp_define_ude() ude_on_pkt_syn() tcph->syn
""".split()  # noqa: SIM905
MOS_FUNCTIONS = """
init destroy getconf setconf core_affinitize create_context destroy_context register_signal app_join
get_connection_cnt socket bind listen accept connect init_rss close abort read readv write writev getsockname
setsock_nonblock ioctl pipe getsockopt setsockopt epoll_create epoll_ctl epoll_wait EventToString
bind_monitor_filter register_callback define_event alloc_event raise_event set_uctx peek ppeek getlastpkt
setlastpkt sendpkt getpeername settimer cb_get_ts
""".split()  # noqa: SIM905


def load(name: str) -> ModuleType:
    """A module of the docs folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


snippets = sys.modules["snippets"] = load("snippets")  # where the next finds it, as a script would
api = load("api")
console = load("console")


def page_id(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


# --- complete -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", aiomos.__all__)
def test_every_public_name_is_in_the_reference(name: str) -> None:
    pages = "".join(page.read_text() for page in DOCS.glob("reference/*.md"))
    assert pages.count(f"::: aiomos.{name}\n") + pages.count(f"{{ #aiomos.{name} }}") == 1


@pytest.mark.parametrize("name", sorted(api.documented()))
def test_what_the_reference_names_has_a_text(name: str) -> None:
    assert len(api.document(name).splitlines()) > 2


@pytest.mark.parametrize("cls", [aiomos.Flow, aiomos.Half, aiomos.MonitorConnection, Stream, aiomos.Gap])
def test_every_attribute_is_described(cls: type) -> None:
    page = DOCS / api.documented()[f"aiomos.{cls.__name__}"]
    text = page.read_text() + api.document(f"aiomos.{cls.__name__}")
    public = {name for name in vars(cls) if not name.startswith("_")}
    assert not {name for name in public if f"`{name}`" not in text and f"### {name} " not in text}


async def test_the_page_of_counters_has_every_counter() -> None:
    async with Runtime(pcap=[ROOT / "tests" / "data" / "http.pcap"]) as runtime:
        names = set(runtime.statistics())
    names |= {"handler_errors", "callback_errors", "handlers_cut_short"}
    names |= {f"handlers_ended.{error.__name__}" for error in PATH_ERRORS}
    page = (DOCS / "reference" / "counters.md").read_text()
    assert set(re.findall(r"^\| `([\w.]+)`", page, re.MULTILINE)) == names


def test_the_page_of_counters_has_every_layer_of_what_is_not_read() -> None:
    page = (DOCS / "reference" / "counters.md").read_text()
    layers = {layer.name.lower() for layer in Layer}
    assert set(re.findall(r"^\| `unread\.(\w+)\.\*` ", page, re.MULTILINE)) == layers


def test_the_page_of_transports_has_every_counter() -> None:
    page = (DOCS / "reference" / "transports.md").read_text()
    names = {*packet.COUNTERS, *ports.TOTALS, *(f"unsent_{cause}" for cause in ports.CAUSES), "clock_steps"}
    assert set(re.findall(r"^\| `transport\.(\w+)` ", page, re.MULTILINE)) == names


def test_every_name_of_the_paper_has_its_aiomos_form() -> None:
    page = (DOCS / "mos.md").read_text()
    assert not [name for name in PAPER if name not in page]
    assert not [name for name in MOS_FUNCTIONS if f"\n| `{name}`" not in page]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_page_is_in_the_navigation(page: Path) -> None:
    assert f" {page_id(page)}\n" in (ROOT / "mkdocs.yml").read_text()


@pytest.mark.docs
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install .[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- run ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", snippets.pages(), ids=lambda path: path.stem)
def test_code_on_a_page_is_that_of_the_files_that_are_run(page: Path) -> None:
    text = page.read_text()
    assert snippets.fill(text) == text, "python docs/snippets.py writes it anew"
    assert "--8<--" not in text


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_code_on_a_page_comes_from_a_file(page: Path) -> None:
    """Doctest sessions are run by the test below."""
    for mark, language, body in BLOCK.findall(page.read_text()):
        if language in ("python", "console") and ">>>" not in body:
            assert re.match("<!-- examples/", mark), (
                f"write this to docs/examples, and its name above it:\n{body}"
            )


def test_a_block_is_written_from_its_source() -> None:
    page = "<!-- examples/http_log.py handler -->\n```python\nold\n```\n\n```python\nother\n```\n"
    filled = snippets.fill(page)
    assert "old" not in filled
    assert '```python\n@app.monitor("server port 80")\nasync def log(' in filled
    assert "region" not in filled
    assert filled.endswith("```\n\n```python\nother\n```\n")
    assert snippets.fill(filled) == filled
    with pytest.raises(ValueError, match="no region nowhere"):
        snippets.fill(page.replace("handler", "nowhere"))


def test_every_example_is_shown_and_run() -> None:
    shown = {found["file"] for page in PAGES for found in snippets.BLOCK.finditer(page.read_text())}
    run = "".join(path.read_text() for path in SESSIONS.glob("*.console"))
    for path in sorted(DOCS.glob("examples/*.py")):
        assert path.relative_to(DOCS).as_posix() in shown
        assert path.relative_to(ROOT).as_posix() in run
    assert {path.relative_to(DOCS).as_posix() for path in SESSIONS.iterdir()} <= shown


@pytest.mark.parametrize("session", sorted(SESSIONS.glob("*.console")), ids=lambda path: path.stem)
def test_commands_print_what_the_pages_say(session: Path) -> None:
    expected = session.read_text()
    assert console.play(expected).splitlines() == expected.splitlines()


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in page.read_text()], ids=page_id)
def test_python_sessions_of_pages_hold(page: Path) -> None:
    sessions = "".join(body for _, _, body in BLOCK.findall(page.read_text()) if ">>>" in body)
    test = doctest.DocTestParser().get_doctest(sessions, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_page_of_what_is_read_has_every_group() -> None:
    """Each is a table made of `aiomos.wire.protocols.READ`, whose rows the tests of the readers hold true."""
    page = (DOCS / "reference" / "wire.md").read_text()
    groups = list(dict.fromkeys(row.group for row in READ))
    assert api.PROTOCOLS.findall(page) == groups
    filled = api.on_page_markdown(
        page, page=SimpleNamespace(file=SimpleNamespace(src_uri="reference/wire.md"))
    )
    assert ":::" not in filled
    for row in READ:
        assert f"| {row.number} | {row.name} | {row.when} | {row.source} |" in filled
