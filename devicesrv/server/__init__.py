# SPDX-License-Identifier: GPL-2.0-or-later
"""The device server's socket and what it keeps for each peer."""
