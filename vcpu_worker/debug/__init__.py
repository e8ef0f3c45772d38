# SPDX-License-Identifier: GPL-2.0-or-later
"""What a debugger sees and changes of one vCPU."""
