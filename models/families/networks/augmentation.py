"""Training pictures drawn a little otherwise each time: zoomed and mirrored."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def augment_pictures(
    pictures: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    zoom: tuple[float, float],
    flips: bool,
) -> NDArray[np.float32]:
    """Zoom each picture about its middle and mirror it, or not; what comes in at the edges is mirrored from inside.

    Parameters
    ----------
    pictures : (n, height, width, 3), 0 … 255. zoom : least and largest factor; above 1 less is seen, and larger.
    flips : mirror left to right, and top to bottom, each with probability 1/2.
    """
    n, height, width = pictures.shape[:3]
    factors: NDArray[np.float64] = np.asarray(rng.uniform(*zoom, n))
    mirrored = rng.random((n, 2)) < (0.5 if flips else 0.0)
    drawn = np.empty_like(pictures)
    for i, picture in enumerate(pictures):
        across, down = mirrored[i]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, factors[i])
        zoomed = (
            picture
            if zoom == (1, 1)
            else cv2.warpAffine(
                picture,
                turn,
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT_101,
            )
        )
        drawn[i] = zoomed[:: -1 if down else 1, :: -1 if across else 1]
    return drawn
