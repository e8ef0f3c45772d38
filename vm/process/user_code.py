# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's own Python file: executed, and what went wrong with it told in one sentence.

`python -m allstop.vm.process.user_code PID FILE NAME` says whether FILE has a function NAME. The launcher, process PID,
runs it before it makes a machine, for the launcher executes no user code. Exit status 0, or 2 with the sentence on
stderr.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from allstop.vm.process.lifetime import tie_to_parent


class UserCodeError(ValueError):
    """A user's file cannot be used; the text is one sentence that says why."""


def execute(path: str) -> ModuleType:
    """The module that the file makes. Raises UserCodeError.

    It is executed once in a process, however often it is asked for. It may import files that lie beside it.
    """
    name = f"user file {os.path.realpath(path)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserCodeError(f"{path} is not a Python file: its name must end in .py")
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise UserCodeError(f"{path} raised {words(error)} when it was loaded") from error
    return module


def function(path: str, name: str) -> Callable[..., Any]:
    """The function `name` of the file, or whatever there can be called. Raises UserCodeError."""
    if not os.path.isfile(path):
        raise UserCodeError(f"there is no file {path}")
    found = getattr(execute(path), name, None)
    if found is None:
        raise UserCodeError(f"{path} has no function {name}")
    if not callable(found):
        raise UserCodeError(f"{name} of {path} is {type(found).__name__} and no function")
    called: Callable[..., Any] = found
    return called


def words(error: BaseException) -> str:
    """A user's exception: its kind and what it says of itself, as `text_of` has it."""
    text = text_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def text_of(error: BaseException) -> str:
    """What a user's exception says of itself: one line, and nothing that cannot be sent."""
    try:
        text = str(error)
    except BaseException as failure:
        text = f"its text is lost, for str() of it raised {type(failure).__name__}"
    return "".join(character if character.isprintable() else " " for character in text)


def main() -> int:
    """See the module's documentation."""
    launcher, path, name = sys.argv[1:]
    tie_to_parent(int(launcher))
    try:
        function(path, name)
    except UserCodeError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
