# SPDX-License-Identifier: GPL-2.0-or-later
"""Measurements. Figures of different runs, or hosts, do not compare: only ratios within one run count."""
