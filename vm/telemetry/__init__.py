# SPDX-License-Identifier: GPL-2.0-or-later
"""A process's counters, histograms and records of its own work."""
