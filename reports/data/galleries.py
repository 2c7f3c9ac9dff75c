"""Explained tiles as small pictures for the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image

from extract.errors import ReportError
from models.explaining.explanations import (
    Explanation,
    describe_border,
    describe_sanity,
    read_explanations,
)
from models.store.kept_models import list_kept
from reports.data.formats import DASH, format_figures

# Heights in pixels: twice those on the page, for screens that draw twice as fine.
HEIGHT = 224
NEIGHBOUR_HEIGHT = 112
QUALITY = 70  # of JPEG, which a PDF embeds as it is, while it encodes WebP again
ROLES = {
    "range": "Across the range of the truth",
    "best": "The best predicted",
    "worst": "The worst predicted",
    "asked": "Asked for",
}
FLAT = 0.01  # of the spread of the truth
_KINDS = {"tile": "Tile", "heat": "Heat map of tile", "overlay": "Heat map over tile"}


class EmbeddedPicture(NamedTuple):
    """A picture as a data URI, and its alternative text."""

    src: str
    alt: str


class ExplainedTile(NamedTuple):
    """One tile of a gallery, as text; `near` is a picture of its nearest tiles, or empty."""

    id: str
    truth: str
    prediction: str
    pictures: list[EmbeddedPicture]
    near: str
    near_text: str


class Gallery(NamedTuple):
    """The explained tiles of one target.

    Attributes
    ----------
    facts : as `models.explaining.explanations.Explanation`.
    sanity : whether the maps depend on what was learnt, as a sentence.
    border : whether they are stronger along the border, as sentences.
    groups : title of each role, and its tiles.
    others : names of further models that were explained, which are not shown.
    is_flat : whether the maps move the prediction by less than 1 % of the spread of the truth, so
        that there is nothing to explain.
    """

    facts: dict[str, Any]
    sanity: str
    border: str
    groups: list[tuple[str, list[ExplainedTile]]]
    others: list[str]
    is_flat: bool


class Galleries(NamedTuple):
    """Galleries by target, and the targets whose model was fitted again after it was explained."""

    shown: dict[str, Gallery]
    stale: list[str]


def read_galleries(folder: Path, targets: list[str]) -> Galleries:
    """Read every explanation of the targets; of several of one target, show the best model's.

    Raises
    ------
    RunFileError : an explanation that is not as it was written.
    ReportError : a picture that cannot be read.
    """
    explanations = read_explanations(folder)
    galleries = Galleries({}, [])
    for target in targets:
        explained = {e.facts["key"]: e for e in explanations if e.facts["target"] == target}
        if not explained:
            continue
        kept = [model.facts["key"] for model in list_kept(folder, target)]
        current = [explained[key] for key in kept if key in explained]
        if current:
            galleries.shown[target] = _build_gallery(current[0], current[1:])
        else:
            galleries.stale.append(target)
    return galleries


def _build_gallery(shown: Explanation, others: list[Explanation]) -> Gallery:
    groups = []
    for role, title in ROLES.items():
        rows = shown.tiles[shown.tiles["role"] == role].to_dict("records")
        if rows:
            groups.append((title, [_build_tile(shown.folder, row) for row in rows]))
    names = [f"{other.facts['model']} on {other.facts['cut']}" for other in others]
    truths = pd.to_numeric(shown.tiles["truth"], errors="coerce")
    return Gallery(
        facts=shown.facts,
        sanity=describe_sanity(shown.facts["sanity"]),
        border=describe_border(shown.facts.get("border")),
        groups=groups,
        others=names,
        is_flat=bool(shown.facts["limit"] < FLAT * truths.std()),
    )


def _build_tile(folder: Path, row: dict[Any, Any]) -> ExplainedTile:
    neighbours = zip(row["neighbour_ids"], row["neighbour_truths"], strict=True)
    near = row["neighbours"]
    return ExplainedTile(
        id=str(row["id"]),
        truth=_format(row["truth"]),
        prediction=_format(row["prediction"]),
        pictures=[
            EmbeddedPicture(_embed(folder / row[kind], HEIGHT), f"{alt} {row['id']}.")
            for kind, alt in _KINDS.items()
        ],
        near=_embed(folder / near, NEIGHBOUR_HEIGHT) if near else "",
        near_text=", ".join(f"{name} ({_format(truth)})" for name, truth in neighbours),
    )


def _format(value: Any) -> str:
    if isinstance(value, str):
        return value
    return DASH if value is None else format_figures(value)


def _embed(path: Path, height: int) -> str:
    """Return a picture as a data URI, of at most that height."""
    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{path}: not a readable picture ({error}). Delete its folder and run "
            "`make explain` again."
        ) from None
    small.thumbnail((small.width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
