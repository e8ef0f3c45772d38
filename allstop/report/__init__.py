# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run folder shows afterwards: an HTML report and a trace."""
