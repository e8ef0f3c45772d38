# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages in a browser."""

from tests.browser import browsed as browsed
