# SPDX-License-Identifier: GPL-2.0-or-later
"""The layer that every process of a machine uses."""
