"""Short names for the types of arrays and ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]
Matrix = NDArray[np.floating[Any]]  # features: as they are stored, or float32
Pixels = NDArray[np.uint8]
Range = tuple[float, float]
ColourScale = Range | tuple[Range, Range, Range]  # what becomes 0 and 255, of all or of R, G, B
