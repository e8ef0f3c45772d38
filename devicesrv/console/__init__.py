# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's console in the device server."""
