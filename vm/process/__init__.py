# SPDX-License-Identifier: GPL-2.0-or-later
"""What every process of a machine does at its start, and loading a user's code."""
