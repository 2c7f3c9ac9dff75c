"""`python -m models`."""

import sys

try:
    from models.cli import main

    main()
except KeyboardInterrupt:  # before a command could say what is kept
    sys.exit(130)
