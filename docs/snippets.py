"""Code and sessions on the pages: written into them from the files that are tested.

A comment before a block names its source, a file or a region of one, below docs::

    <!-- examples/http_log.py -->
    <!-- examples/http_log.py options -->

So pages can be read as files, and a test holds the blocks equal to their sources. After a change of a source::

    python docs/snippets.py           # writes all blocks anew
"""

import re
import textwrap
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LANGUAGES = {".py": "python"}
BLOCK = re.compile(
    r"^(?P<mark><!-- (?P<file>examples/\S+)(?: (?P<region>\w+))? -->)\n```\w*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
REGION = r"^# region {}\n(.*?)^# endregion$"
REGION_LINES = re.compile(r"^# (?:region \w+|endregion)\n", re.MULTILINE)


def pages() -> list[Path]:
    """All pages, and what else is written in their way."""
    return [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"]


def source(file: str, region: str | None) -> str:
    """Read what a block is to hold."""
    text = (DOCS / file).read_text()
    if region is not None:
        found = re.search(REGION.format(region), text, re.MULTILINE | re.DOTALL)
        if found is None:
            raise ValueError(f"{file} has no region {region}")
        text = found[1]
    return textwrap.dedent(REGION_LINES.sub("", text)).strip("\n") + "\n"


def fill(markdown: str) -> str:
    """Write the blocks of a page anew."""

    def block(found: re.Match[str]) -> str:
        suffix = Path(found["file"]).suffix
        language = LANGUAGES.get(suffix, suffix.removeprefix("."))
        return f"{found['mark']}\n```{language}\n{source(found['file'], found['region'])}```"

    return BLOCK.sub(block, markdown)


def write() -> None:
    """Write the blocks of all pages anew."""
    for page in pages():
        before = page.read_text()
        if (after := fill(before)) != before:
            page.write_text(after)


if __name__ == "__main__":
    write()
