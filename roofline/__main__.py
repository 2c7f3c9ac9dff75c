"""`python -m roofline`."""

import os

try:
    from roofline.cli import main

    main()
except KeyboardInterrupt:  # before a command could say what is kept; nothing is open
    os._exit(130)
