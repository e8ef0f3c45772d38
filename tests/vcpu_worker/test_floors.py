# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine's floors: inside vcpu_worker/engine, includes and calls point down only, and files form no circle."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[2] / "vcpu_worker" / "engine"

FLOORS = ("arm", "interpose", "", "cpu", "guest_memory", "run", "binding")
"""From the bottom up: the first folder of a file's path. The empty one holds vcpu.h and what is beside it."""

_KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof", "defined"}


def text_of(path: Path) -> str:
    """A file's C without comments, texts and preprocessor continuation."""
    text = re.sub(r"/\*.*?\*/", " ", path.read_text(), flags=re.DOTALL)
    return re.sub(r'"(?:[^"\\\n]|\\.)*"(?!\n)', '""', text)


def includes(path: Path) -> Iterator[str]:
    """The engine's headers that a file includes, by their path inside the engine."""
    yield from re.findall(r'^#include "vcpu_worker/engine/(.*?)"', path.read_text(), re.MULTILINE)


def defined(text: str) -> set[str]:
    """Functions that other files can call: not static, or static inline (of a header), their bodies at column 0."""
    found = re.findall(r"^(?!static (?!inline))[a-zA-Z_][\w \t*]*?\b(\w+)\([^;{}]*\)\n\{", text, re.MULTILINE)
    return set(found) - _KEYWORDS


def private(text: str) -> set[str]:
    """Functions that only this file can call."""
    return set(re.findall(r"^static [\w \t*]*?\b(\w+)\([^;{}]*\)\n\{", text, re.MULTILINE))


def called(text: str) -> set[str]:
    """Names that are followed by arguments, or handed on as a function's address would be."""
    return set(re.findall(r"\b([a-z_]\w*)\b(?=\s*[(,;)])", text)) - _KEYWORDS - private(text)


def unit(name: str) -> str:
    """A header and the source beside it are one."""
    return name.rsplit(".", 1)[0]


def floor(name: str) -> int:
    """How high a file is."""
    folder, slash, _ = name.partition("/")
    return FLOORS.index(folder if slash else "")


def uses(engine: Path) -> dict[tuple[str, str], str]:
    """What uses what, and by which include or call."""
    files = {str(path.relative_to(engine)): path for path in sorted(engine.rglob("*.[ch]"))}
    texts = {name: text_of(path) for name, path in files.items()}
    homes: dict[str, set[str]] = {}
    for name, text in texts.items():
        for function in defined(text):
            homes.setdefault(function, set()).add(name)
    found = {}
    for name, path in files.items():
        for header in includes(path):
            assert header in files, f"{name} includes {header}, which does not exist"
            found[name, header] = f"includes {header}"
        for function in called(texts[name]) & homes.keys():
            assert len(homes[function]) == 1, f"{function} is defined in {homes[function]}"
            (home,) = homes[function]
            found.setdefault((name, home), f"calls {function} of {home}")
    return found


def faults(engine: Path) -> list[str]:
    """Whatever points up, or one circle of files."""
    found = uses(engine)
    up = [f"{user} {how}" for (user, used), how in found.items() if floor(user) < floor(used)]
    graph: dict[str, set[str]] = {}
    for user, used in found:
        if unit(user) != unit(used):
            graph.setdefault(unit(user), set()).add(unit(used))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        up.append(f"a circle: {' -> '.join(error.args[1])}")
    return up


def test_includes_and_calls_point_down_only() -> None:
    assert faults(ENGINE) == []


def test_every_include_names_its_file_from_the_root() -> None:
    """Would break: an include of one's own folder, which the checks above do not see."""
    for path in ENGINE.rglob("*.[ch]"):
        for header in re.findall(r'^#include "(.*?)"', path.read_text(), re.MULTILINE):
            assert header.startswith(("vcpu_worker/engine/", "vm/")), f"{path}: {header}"


@pytest.mark.parametrize(
    ("name", "line", "fault"),
    [
        ("cpu/timers.c", '#include "vcpu_worker/engine/run/run.h"', "cpu/timers.c includes run/run.h"),
        ("vcpu.h", '#include "vcpu_worker/engine/cpu/timers.h"', "vcpu.h includes cpu/timers.h"),
        ("interpose/cpu.c", "void f(void) { vcpu_run(0, 0, 0); }", "interpose/cpu.c calls vcpu_run of run/run.c"),
        ("cpu/requests.c", "void *f = (void *)vcpu_run;", "cpu/requests.c calls vcpu_run of run/run.c"),
        ("guest_memory/swap.c", "void f(void) { stage2_fault(0, 0, 0, 0); }", "a circle"),
    ],
)  # fmt: skip
def test_what_points_up_is_found(tmp_path: Path, name: str, line: str, fault: str) -> None:
    engine = tmp_path / "engine"
    shutil.copytree(ENGINE, engine, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    with (engine / name).open("a") as file:
        file.write(line + "\n")
    assert any(found.startswith(fault) for found in faults(engine))
