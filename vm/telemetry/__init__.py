# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process says of its own work while it works."""
