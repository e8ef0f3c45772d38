# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run may be asked for, and what its processes are told."""
