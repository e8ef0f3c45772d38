# SPDX-License-Identifier: GPL-2.0-or-later
"""`--fetch user` on whole runs: the example, what a user may get wrong, and what comes of a wrong word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from allstop import Machine
from allstop.vm.errors import UsageError

pytestmark = pytest.mark.processes

EXAMPLE = Path(__file__).parents[2] / "examples" / "fetch_handler.py"
TIMEOUT_S = 60.0


@pytest.mark.parametrize("vcpus", [1, 4])
def test_the_example_decodes_what_is_executed(guests: Path, vcpus: int) -> None:
    """Every load and store without syndrome, ARM and Thumb; the guest compares with the same on RAM."""
    with Machine(
        guests / "mmio.elf", vcpus=vcpus, fetch="user", fetch_handler=f"{EXAMPLE}:fetch", timeout=TIMEOUT_S
    ) as machine:
        verdict = machine.wait()
    assert verdict.verdict == "pass", verdict.sentence
    assert verdict.fetches.count > 100 and verdict.stops.count == 0
    assert verdict.counters["fetch_wrong"] == verdict.counters["mmio_wrong"] == verdict.counters["fetch_refused"] == 0


def test_the_examples_refusal_is_the_guests_abort(guests: Path) -> None:
    with Machine(
        guests / "swapper.elf",
        vcpus=2,
        fetch="user",
        fetch_handler=f"{EXAMPLE}:refuse",
        timeout=TIMEOUT_S,
        parameter=1 << 20 | 100,
    ) as machine:
        verdict = machine.wait()
    assert verdict.verdict == "fail" and verdict.counters["abort_injected"] == 100, verdict.sentence


def test_a_wrong_word_is_a_violation(command: Any, guests: Path, tmp_path: Path) -> None:
    """One that could have made the access: only the oracle knows better. And the proof that it fires on a whole run."""
    file = tmp_path / "wrong.py"
    file.write_text(
        f"import sys\nsys.path.append({str(EXAMPLE.parent)!r})\nimport fetch_handler\n"
        "def fetch(trap):\n    word = fetch_handler.fetch(trap)\n"
        "    return word if trap.thumb or word >> 25 != 0x72 else word ^ 1 << 12\n"
    )  # ldr, str: another Rt
    done = command(
        "run",
        guests / "mmio.elf",
        "--fetch",
        "user",
        "--fetch-handler",
        f"{file}:fetch",
        "--quiet",
        "--timeout",
        TIMEOUT_S,
    )
    assert done.returncode == 3, done.stderr
    assert re.fullmatch(r"allstop: violation: vCPU 0 executed `[^\n]+\n", done.stderr)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def fetch(trap): return 'word'", "answered 'word' at vCPU 0's 0x"),
        ("def fetch(trap): raise KeyError('who')", "raised KeyError: 'who' at vCPU 0's 0x"),
        ("def fetch(): return None", "raised TypeError: fetch() takes 0 positional arguments"),
    ],
)
def test_a_handler_that_fails_ends_the_run_in_one_sentence(
    command: Any, guests: Path, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "failing.py"
    file.write_text(text)
    done = command("run", guests / "mmio.elf", "--fetch=user", f"--fetch-handler={file}:fetch", "--quiet")
    assert done.returncode == 4 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"allstop: error: the fetch handler {file}:fetch ") and words in done.stderr


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (None, "fetch", "there is no file"),
        ("", "fetch", "has no function fetch"),
        ("fetch = 5", "fetch", "is int and no"),
        ("import nowhere_at_all", "fetch", "raised ModuleNotFoundError: No module named 'nowhere_at_all' when"),
        ("def fetch(:", "fetch", "raised SyntaxError: "),
        ("raise SystemExit(3)", "fetch", "raised SystemExit: 3 when"),
        ("import os; os._exit(7)", "fetch", "exited with status 7"),
        ("print('not the word')\nimport sys\nsys.stderr.write('nor this\\n')", "fetch", "has no function fetch"),
    ],
)
def test_what_can_not_be_called_is_a_usage_error(
    guests: Path,
    tmp_path: Path,
    text: str | None,
    name: str,
    words: str,
) -> None:
    file = tmp_path / "handler.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError) as caught:
        Machine(guests / "mmio.elf", fetch="user", fetch_handler=f"{file}:{name}")
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fetch", "user"), "require each other"),
        (("--fetch-handler", f"{EXAMPLE}:fetch"), "require each other"),
        (("--fetch", "user", "--fetch-handler", "x.py"), "is given as FILE.py:function"),
        (("--fetch", "user", "--fetch-handler", f"{EXAMPLE}:none"), "has no function none"),
    ],
)
def test_usage_is_one_sentence_and_status_two(
    command: Any,
    guests: Path,
    arguments: tuple[str, ...],
    words: str,
) -> None:
    done = command("run", guests / "mmio.elf", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and words in done.stderr
