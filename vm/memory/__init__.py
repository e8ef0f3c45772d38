# SPDX-License-Identifier: GPL-2.0-or-later
"""Guest memory and stage 2, as the processes outside the engine see them."""
