"""The types of the arrays that are handed about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = NDArray[np.floating[Any]]  # features: as they are stored, or float32
Ints = NDArray[np.int64]
