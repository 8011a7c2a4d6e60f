"""`python -m genie` is the command `genie`."""

import sys

from genie.cli import main

sys.exit(main())
