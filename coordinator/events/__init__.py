# SPDX-License-Identifier: GPL-2.0-or-later
"""Injected events: which are due, which process performs each, and reminders."""
