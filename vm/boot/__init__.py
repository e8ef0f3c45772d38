# SPDX-License-Identifier: GPL-2.0-or-later
"""What lies in guest memory before the first instruction: image, device tree, RAM disk."""
