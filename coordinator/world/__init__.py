# SPDX-License-Identifier: GPL-2.0-or-later
"""The members of the machine, which vCPUs are on, and stopping all of them."""
