# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's own device: `--device FILE.py:Class@ADDRESS`."""
from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType

from allstop.machine.configuration import DeviceSpec
from devicesrv.bus import WIDTHS
from devicesrv.device import Device, Wiring


class PluginError(ValueError):
    """A user's device can not be used; the text is one sentence that says why."""


def load(spec: DeviceSpec, wiring: Wiring) -> Device:
    """The device that `spec` names, constructed with `wiring`. Raises PluginError.

    The file is executed once, however many of its devices are used. It may import files that lie beside it.
    """
    name = f"{spec.path}:{spec.class_name}"
    if not os.path.isfile(spec.path):
        raise PluginError(f"there is no file {spec.path} (device {name})")
    kind = getattr(_execute(spec.path), spec.class_name, None)
    if kind is None:
        raise PluginError(f"{spec.path} has no class {spec.class_name}")
    if not isinstance(kind, type) or not issubclass(kind, Device):
        raise PluginError(f"{name} is not a subclass of devicesrv.device.Device")
    try:
        device = kind(wiring)
    except BaseException as error:
        raise PluginError(f"the constructor of {name} raised {_kind_and_words(error)}") from error
    try:
        return _checked(device, name)
    except PluginError:
        raise
    except BaseException as error:  # a property, say
        raise PluginError(f"{name} raised {_kind_and_words(error)} when it was looked at") from error


def _checked(device: Device, name: str) -> Device:
    if not hasattr(device, "guest_mistakes"):
        raise PluginError(f"the constructor of {name} does not call super().__init__(wiring)")
    if not isinstance(device.size_bytes, int):
        raise PluginError(f"the size_bytes of {name} must be a number of bytes")
    try:
        widths = set(device.widths)
    except TypeError:  # a number, say
        widths = set()
    if not widths or not widths <= set(WIDTHS):
        raise PluginError(f"the widths of {name} must be some of 1, 2, 4 and 8")
    return device


def _execute(path: str) -> ModuleType:
    name = f"user device {os.path.realpath(path)}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file: its name must end in .py")
    folder = os.path.dirname(os.path.abspath(path))
    if folder not in sys.path:
        sys.path.append(folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        raise PluginError(f"{path} raised {_kind_and_words(error)} when it was loaded") from error
    return module


def words(error: BaseException) -> str:
    """What a user's exception says of itself: one line, and nothing that can not be sent."""
    try:
        text = str(error)
    except BaseException as failure:
        text = f"its text is lost, for str() of it raised {type(failure).__name__}"
    return "".join(character if character.isprintable() else " " for character in text)


def _kind_and_words(error: BaseException) -> str:
    said = words(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
