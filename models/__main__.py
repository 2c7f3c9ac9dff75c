"""`python -m models`."""

import os

try:
    from models.cli import main

    main()
except KeyboardInterrupt:  # before a command could say what is kept; nothing is open
    os._exit(130)
