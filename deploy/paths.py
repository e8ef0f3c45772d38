# SPDX-License-Identifier: GPL-2.0-or-later
"""Moved to `allstop.vm.config.paths`."""

from allstop.vm.config.paths import LONGEST_SHOWN as LONGEST_SHOWN
from allstop.vm.config.paths import absolute as absolute
from allstop.vm.config.paths import path_of as path_of
from allstop.vm.config.paths import shown as shown
