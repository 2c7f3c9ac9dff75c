"""Take away what only Linux or POSIX has, for `make test-portable` and all its subprocesses.

Libraries that have another way on each system are loaded before.
"""

import contextlib
import importlib
import os
import sys

for library in ("filelock", "locket", "psutil"):
    with contextlib.suppress(ImportError):
        importlib.import_module(library)
for module in ("fcntl", "resource"):
    sys.modules[module] = None  # an import raises ImportError
for name in ("memfd_create", "posix_fallocate", "posix_fadvise", "sched_getaffinity", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)
