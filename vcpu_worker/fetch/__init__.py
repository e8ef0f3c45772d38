# SPDX-License-Identifier: GPL-2.0-or-later
"""Fetching the instruction of an access without syndrome, and judging what was fetched."""
