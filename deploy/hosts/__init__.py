# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine on several hosts: their file, their agents, what they report."""
