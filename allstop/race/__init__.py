# SPDX-License-Identifier: GPL-2.0-or-later
"""The fetch race of 2013: its runs, its table and its page."""
