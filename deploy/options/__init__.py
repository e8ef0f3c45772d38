# SPDX-License-Identifier: GPL-2.0-or-later
"""What a user may ask of a run, checked."""
