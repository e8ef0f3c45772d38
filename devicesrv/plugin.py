# SPDX-License-Identifier: GPL-2.0-or-later
"""A user's own device: `--device FILE.py:Class@ADDRESS`."""

from __future__ import annotations

import os

from allstop.devicesrv.bus import WIDTHS
from allstop.devicesrv.device import Device, Wiring
from allstop.vm.config.specs import DeviceSpec
from allstop.vm.process.user_code import UserCodeError, execute, words


class PluginError(ValueError):
    """A user's device cannot be used; the text is one sentence that says why."""


def load(spec: DeviceSpec, wiring: Wiring) -> Device:
    """The device that `spec` names, constructed with `wiring`. Raises PluginError.

    The file is executed once, however many of its devices are used. It may import files that lie beside it.
    """
    name = f"{spec.path}:{spec.class_name}"
    if not os.path.isfile(spec.path):
        raise PluginError(f"there is no file {spec.path} (device {name})")
    try:
        kind = getattr(execute(spec.path), spec.class_name, None)
    except UserCodeError as error:
        raise PluginError(str(error)) from error.__cause__
    if kind is None:
        raise PluginError(f"{spec.path} has no class {spec.class_name}")
    if not isinstance(kind, type) or not issubclass(kind, Device):
        raise PluginError(f"{name} is not a subclass of allstop.devicesrv.device.Device")
    try:
        device = kind(wiring)
    except BaseException as error:
        raise PluginError(f"the constructor of {name} raised {words(error)}") from error
    try:
        return _checked(device, name)
    except PluginError:
        raise
    except BaseException as error:  # a property, say
        raise PluginError(f"{name} raised {words(error)} when it was looked at") from error


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
