# SPDX-License-Identifier: GPL-2.0-or-later
"""The launcher's end of the guest's console."""
