# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests that come with allstop: their images are data of the package, also in an installed wheel."""

from __future__ import annotations

from pathlib import Path

IMAGES = Path(__file__).parents[2] / "images"
"""The folder of the images; the sources are in the repository's `guests/`."""
