"""Scores in, one page out: `python -m reports`."""

import sys

try:
    from reports.cli import main

    main()
except KeyboardInterrupt:  # before a command could say what is kept
    sys.exit(130)
