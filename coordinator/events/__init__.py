# SPDX-License-Identifier: GPL-2.0-or-later
"""Injected events: which are due, who performs them, and what is asked again."""
