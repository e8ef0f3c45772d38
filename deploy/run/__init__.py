# SPDX-License-Identifier: GPL-2.0-or-later
"""One run, from its options to its verdict."""
