# SPDX-License-Identifier: MIT-0
"""The local Lambda: python3 tests/emulator invoke|serve --help"""

import sys

# Here, because older ones cannot even read the other files. This one has to suit them all.
if sys.version_info < (3, 9):  # noqa: UP036
    sys.exit("emulator: Python 3.9 or newer is needed, and %s is %d.%d" % ((sys.executable,) + sys.version_info[:2]))  # noqa: UP031

import cli

sys.exit(cli.main())
