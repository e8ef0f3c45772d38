# SPDX-License-Identifier: GPL-2.0-or-later
"""Moved to `allstop.vm.errors`."""

from allstop.vm.errors import HarnessError as HarnessError
from allstop.vm.errors import UsageError as UsageError
