# SPDX-License-Identifier: GPL-2.0-or-later
"""The node: the process that carries pages, requests and stops between the hosts of a machine."""
