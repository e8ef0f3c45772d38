# SPDX-License-Identifier: GPL-2.0-or-later
"""What a node does to its host's stage-2 entries, page frames and control-page slots, in C."""
