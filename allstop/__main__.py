# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m allstop`: the command."""

import sys

from allstop.cli.entry import main

sys.exit(main())
