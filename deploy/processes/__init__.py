# SPDX-License-Identifier: GPL-2.0-or-later
"""Starting, watching and ending the processes of one host."""
