# SPDX-License-Identifier: GPL-2.0-or-later
"""Prose that stays plain, and documents that stay true: their links and the files that they name exist."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

EXEMPT = ("PROTOCOL.md",)
"""What is generated from docstrings, whose lines are long."""

WORDS = {
    r"\bcan[\s#*/]+not\b": "write `cannot`",
    r"(?i)\bwho(m)?ever\b": "name the actor",
    r"\b([Nn]o|[Ss]ome|[Aa]ny|[Ee]very)body\b": "name the actor: the vCPU, the worker, the peer, the user",
    r"(?i)\bfor[\s#*/]+ever\b": "write `forever`",
    r"(?i)\bin[\s#*/]+vain\b": "say what does not happen",
    r"\bDESIGN\b": "the repository holds no such document",
}
PRINTED = {("guests/peers/peers.c", "somebody")}
"""What a guest prints can change only with its image."""

COLUMNS = 100
TEXTS = {".c", ".h", ".S", ".ld", ".py", ".pyi", ".md", ".toml", ".yaml", ".sbatch", ".js", ".cfg", ".pml", ".txt", ""}
SKIPPED = {"build", "demo", "images", "__pycache__"}


def _files() -> Iterator[str]:
    """Every text of the repository, relative to its root; links to folders are not followed."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not (name in SKIPPED or name.startswith(".") or "egg-info" in name)]
        for name in names:
            path = (Path(folder) / name).relative_to(ROOT)
            if path.suffix in TEXTS and not name.startswith(".") and path != Path(__file__).relative_to(ROOT):
                yield str(path)


FILES = sorted(_files())
PAGES = [name for name in FILES if name.endswith(".md")]
TOP = {name.partition("/")[0] for name in FILES if "/" in name}


def _outside_code(page: str) -> Iterator[tuple[int, str]]:
    """The lines of a page, with their numbers, but for code blocks."""
    fenced = after_blank = False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not (line.startswith("    ") and after_blank):
            yield number, line
            after_blank = not line.strip()


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(EXEMPT)])
def test_the_prose_is_plain(name: str) -> None:
    text = (ROOT / name).read_text(errors="replace")
    found = [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()}: {advice}"
        for word, advice in WORDS.items()
        for hit in re.finditer(word, text)
        if (name, hit.group()) not in PRINTED
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", [page for page in PAGES if not page.startswith(EXEMPT)])
def test_pages_wrap(page: str) -> None:
    """Tables and links cannot wrap, nor does code."""
    long = [
        f"{page}:{number}: {len(line)} columns"
        for number, line in _outside_code(page)
        if len(line) > COLUMNS and not line.lstrip().startswith(("|", "<!--")) and "](" not in line
    ]
    assert not long, "\n".join(long)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    for _, line in _outside_code(str(page.relative_to(ROOT))):
        if line.startswith("#"):
            title = line.lstrip("#").strip().lower()
            found.add(re.sub(r"[^\w\- ]", "", title).replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    wrong = []
    text = "\n".join(line for _, line in _outside_code(page))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        if not place.exists():
            wrong.append(f"{page}: {target}: no such file")
        elif anchor and anchor not in _anchors(place.resolve()):
            wrong.append(f"{page}: {target}: no such heading")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    """A path in backticks that begins with a folder of the repository. CHANGELOG tells of what was."""
    wrong = []
    for number, line in _outside_code(page):
        for path in re.findall(r"`([\w.+*-]+(?:/[\w.+*-]*)+)`", line):
            if path.partition("/")[0] not in TOP:
                continue
            if not any(ROOT.glob(path.rstrip("/"))):
                wrong.append(f"{page}:{number}: {path}")
    assert not wrong, "\n".join(wrong)
