# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page: the words that every process of one host shares."""
