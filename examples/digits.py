"""Write scikit-learn's 1,797 handwritten digits as pictures, a folder a class, and settings that classify them.

python examples/digits.py --out digits
make all CONFIG=digits/digits.toml
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

SETTINGS = """# Handwritten digits, 8 × 8: which digit is it? No network is needed to embed them, and none is fetched.
name = "digits"

[tiles]
layout = "folders"                    # a folder a class; every picture is an area of its own
images = "pictures"

[extract]
cuts = ["pixels/16:map", "pixels/16:flat"]
size = 32                             # side that pictures are decoded to; the cuts resize from there

[models]
names = ["mean", "ridge", "knn", "cnn"]
splits = ["random"]                   # there is no place, and no label that pictures share

[models.params.knn]
n_neighbors = [1, 3, 5]

[models.params.cnn]
learning_rate = 0.003
batch = 64
patience = 5
"""


def write_digits(folder: Path) -> Path:
    """Write the pictures and `digits.toml`, and give its path."""
    digits = load_digits()
    for i, (picture, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / "pictures" / str(digit) / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            cv2.imencode(".png", np.rint(picture * 255 / 16).astype(np.uint8))[1].tobytes()
        )
    (folder / "digits.toml").write_text(SETTINGS, encoding="utf-8")
    return folder / "digits.toml"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("digits"), help="folder to write into")
    write_digits(parser.parse_args().out)
