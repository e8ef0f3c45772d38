# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of a run, and the configuration of its processes."""
