# SPDX-License-Identifier: GPL-2.0-or-later
"""The version of allstop, which hosts of one machine compare."""

__version__ = "0.2.0"
