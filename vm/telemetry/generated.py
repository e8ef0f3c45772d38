# SPDX-License-Identifier: GPL-2.0-or-later
"""The text that follows from the rows of C tables: `python -m allstop.vm.telemetry.generated` writes it into its files.

The rows are in vm/control/rows.h and vm/journal/kinds.h, and the built extensions hold them. The stubs repeat their
names, since a type checker reads no C; docs/journal.md shows the kinds. A test says when a file is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from allstop.vm.control import control
from allstop.vm.journal.kind import Kind
from allstop.vm.journal.recorder import Recorder

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python -m allstop.vm.telemetry.generated"
_BEGIN, _END = f"by `{COMMAND}`:", "End of what is generated."


def _constants(of: object, indent: str = "") -> Iterator[str]:
    """The whole numbers of a module or a type."""
    for name, value in vars(of).items():
        if name.isupper() and isinstance(value, int):
            yield f"{indent}{name}: int"


def _members() -> Iterator[str]:
    for kind in Kind:
        yield f"    {kind.name} = {kind.value}"


def _tables() -> Iterator[str]:
    for writer, kinds in groupby(Kind, key=lambda kind: kind.writer):
        yield from ("", f"### {writer}", "", "| number | kind | operands | meaning |", "|---|---|---|---|")
        for kind in kinds:
            yield f"| {kind.value} | {kind.name} | {', '.join(kind.operands)} | {kind.meaning} |"
    yield ""


def files() -> dict[Path, list[list[str]]]:
    """The files with generated parts, and the lines of each part, in order."""
    return {
        ROOT / "vm/control/control.pyi": [list(_constants(control)), list(_constants(control.ControlPage, "    "))],
        ROOT / "vm/journal/recorder.pyi": [list(_constants(Recorder, "    "))],
        ROOT / "vm/journal/kind.pyi": [list(_members())],
        ROOT / "docs/journal.md": [list(_tables())],
    }


def renewed(text: str, parts: Iterable[list[str]]) -> str:
    """`text` with these lines in its generated parts. Raises ValueError when it has more or fewer of them."""
    left = iter(parts)
    lines: list[str] = []
    is_inside = False
    for line in text.splitlines():
        if is_inside and _END not in line:
            continue
        is_inside = False
        lines.append(line)
        if _BEGIN in line:
            part = next(left, None)
            if part is None:
                raise ValueError(f"there is no part for {line!r}")
            lines += part
            is_inside = True
    if is_inside or next(left, None) is not None:
        raise ValueError("a generated part has no end, or no place")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the files anew that are stale, and name them."""
    for path, parts in files().items():
        old = path.read_text()
        new = renewed(old, parts)
        if new != old:
            path.write_text(new)
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
