# SPDX-License-Identifier: GPL-2.0-or-later
"""Debugging one vCPU: registers, memory, breakpoints, steps."""
