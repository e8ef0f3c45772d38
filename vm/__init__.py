# SPDX-License-Identifier: GPL-2.0-or-later
"""The ground that every process of a machine stands on."""
