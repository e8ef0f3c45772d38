# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run leaves: the verdict, its figures, the run folder."""
