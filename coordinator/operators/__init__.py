# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators and debuggers ask of a running machine."""
