"""Draw the pictures of `gallery.md` from the files that a report and its explanations left.

Usage: python docs/draw_gallery.py artifacts/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).with_name("images")
FIGURES = {
    "answer": "answer",
    "comparison": "heat-01-income",
    "ladder": "ladder-01-income",
    "truth": "truth-01-income",
}
MAPS = ("map-truth-01-income", "map-prediction-01-income", "map-residual-01-income")
WIDTH = 800  # of a picture [pixels]
SIDE = 190  # of a map or a tile [pixels]
GAP = 10
N_COLOURS = 64
N_EXPLAINED = 3


def draw_gallery(folder: Path) -> None:
    """Write the pictures small enough to be kept with the code."""
    report = folder / "report"
    for name, source in FIGURES.items():
        picture = Image.open(report / f"{source}.png").convert("RGB")
        picture.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
        _write(picture, name)
    _write(_join([report / f"{name}.png" for name in MAPS]), "maps")
    explained = sorted((folder / "explain").glob("*/*/*/*/*_overlay.png"))
    pairs = []
    for overlay in explained[:N_EXPLAINED]:
        pairs += [overlay.with_name(overlay.name.replace("overlay", "tile")), overlay]
    _write(_join(pairs[: N_EXPLAINED * 2]), "explanations")


def _join(paths: list[Path]) -> Image.Image:
    """Return pictures side by side, each cell of a map as a square without blur."""
    joined = Image.new("RGB", (len(paths) * (SIDE + GAP) - GAP, SIDE), "white")
    for place, path in enumerate(paths):
        picture = Image.open(path).convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        flat = Image.alpha_composite(ground, picture).convert("RGB")
        joined.paste(_fit(flat), (place * (SIDE + GAP), 0))
    return joined


def _fit(picture: Image.Image) -> Image.Image:
    is_small = max(picture.size) < SIDE
    how = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
    scale = SIDE / max(picture.size)
    sides = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(sides, how)


def _write(picture: Image.Image, name: str) -> None:
    path = IMAGES / f"{name}.png"
    picture.quantize(N_COLOURS).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    draw_gallery(Path(sys.argv[1]))
