# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals: their records, their files, and the native recorder."""
