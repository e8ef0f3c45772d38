# SPDX-License-Identifier: GPL-2.0-or-later
"""Events: what may be done to a running machine, and when. Pure: nothing here touches a machine."""
