# SPDX-License-Identifier: GPL-2.0-or-later
"""Exits that the worker handles in Python."""
