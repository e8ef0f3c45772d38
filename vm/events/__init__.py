# SPDX-License-Identifier: GPL-2.0-or-later
"""Events: disturbances of a running machine, and their triggers. Pure: nothing here touches a machine."""
