# SPDX-License-Identifier: GPL-2.0-or-later
"""Who belongs to the machine, which vCPUs are on, and stopping all of them."""
