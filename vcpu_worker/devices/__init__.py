# SPDX-License-Identifier: GPL-2.0-or-later
"""The worker's side of device accesses."""
