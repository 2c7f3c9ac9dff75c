"""`python -m extract`."""

import sys

try:
    from extract.cli import main

    main()
except KeyboardInterrupt:  # before a command could say what is kept
    sys.exit(130)
