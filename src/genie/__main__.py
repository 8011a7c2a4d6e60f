"""`python -m genie` is the command `genie`."""

import sys

from genie.cli.main import main

sys.exit(main())
