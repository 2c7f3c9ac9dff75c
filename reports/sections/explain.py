"""What the models look at: the galleries that `make explain` wrote, as small pictures."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from extract.errors import ReportError
from models.explaining.explanations import (
    Explanation,
    describe_sanity,
    list_explanations,
    read_explanation,
)
from models.store.kept_models import list_kept

# of the pictures on the page [pixels]; drawn twice as fine on screens that are
SIDE = 112
NEIGHBOUR_SIDE = 56
QUALITY = 70  # of JPEG, which a PDF holds as it is; of WebP it makes every pixel anew
ROLES = (
    ("range", "Across the range of the truth"),
    ("best", "The best predicted"),
    ("worst", "The worst predicted"),
    ("asked", "Asked for"),
)
_KINDS = (("tile", "Tile"), ("heat", "Heat map of tile"), ("overlay", "Heat map over tile"))


class Gallery(NamedTuple):
    """The explained tiles of one target, ready to be shown.

    Attributes
    ----------
    facts : as `models.explaining.explanations.Explanation`. sanity : in words.
    groups : title of each role, and its tiles: id, truth, prediction, pictures and neighbours.
    others : names of further models that were explained, which are not shown.
    """

    facts: dict[str, Any]
    sanity: str
    groups: list[tuple[str, list[dict[str, Any]]]]
    others: list[str]


class Galleries(NamedTuple):
    """By target what is shown, and the targets whose explanation is of a model that has been fitted anew since."""

    shown: dict[str, Gallery]
    stale: list[str]


def read_galleries(folder: Path, targets: list[str]) -> Galleries:
    """Read every explanation of the targets; of several of one target the best model's is shown.

    Raises
    ------
    RunFileError : an explanation that is not as it was written.
    ReportError : a picture that is not there.
    """
    found: dict[str, list[Explanation]] = {}
    for path in list_explanations(folder):
        one = read_explanation(path)
        found.setdefault(str(one.facts["target"]), []).append(one)
    shown = {}
    stale = []
    for target in [t for t in targets if t in found]:
        order = {
            str(kept.facts["key"]): place for place, kept in enumerate(list_kept(folder, target))
        }
        fresh = sorted(
            (e for e in found[target] if e.facts["key"] in order),
            key=lambda e: order[e.facts["key"]],
        )
        if fresh:
            shown[target] = _build_gallery(
                fresh[0], [f"{e.facts['model']} on {e.facts['cut']}" for e in fresh[1:]]
            )
        else:
            stale.append(target)
    return Galleries(shown, stale)


def _build_gallery(one: Explanation, others: list[str]) -> Gallery:
    groups = []
    for role, title in ROLES:
        rows = one.tiles[one.tiles["role"] == role]
        if len(rows):
            groups.append((title, [_show_tile(one, row) for row in rows.to_dict("records")]))
    return Gallery(one.facts, describe_sanity(one.facts["sanity"]), groups, others)


def _show_tile(one: Explanation, row: dict[Any, Any]) -> dict[str, Any]:
    pictures = [
        {"src": _read_small(one.folder / row[kind], 2 * SIDE), "alt": f"{alt} {row['id']}."}
        for kind, alt in _KINDS
    ]
    near = ""
    if row["neighbours"]:
        near = _read_small(one.folder / row["neighbours"], 2 * NEIGHBOUR_SIDE)
    truths = [
        f"{i} ({_format(t)})"
        for i, t in zip(row["neighbour_ids"], row["neighbour_truths"], strict=True)
    ]
    return {
        "id": str(row["id"]),
        "truth": _format(row["truth"]),
        "prediction": _format(row["prediction"]),
        "pictures": pictures,
        "near": near,
        "near_text": ", ".join(truths),
    }


def _format(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None or math.isnan(value) else f"{value:.3g}".replace("-", "−")


def _read_small(path: Path, height: int) -> str:
    """Return a picture as a data URI of the height, or as it is where it is smaller."""
    try:
        with Image.open(path) as picture:
            width = round(picture.width * height / picture.height)
            small = picture.convert("RGB")
            if height < picture.height:
                small = small.resize((width, height), Image.Resampling.LANCZOS)
    except (OSError, ValueError) as error:
        raise ReportError(
            f"{path}: not a readable picture ({error}). Delete its folder and run `make explain` again."
        ) from None
    out = io.BytesIO()
    small.save(out, format="JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def describe_galleries(galleries: Galleries) -> str:
    """Describe how many targets are explained, and whether their maps depend on what was learnt."""
    n = len(galleries.shown)
    sound = [t for t, g in galleries.shown.items() if g.facts["sanity"]["depends_on_weights"]]
    if not n:
        return ""
    text = f"Where on a tile the prediction of {'the' if n == 1 else 'each'} model comes from. "
    if len(sound) == n:
        return (
            text
            + "With what was learnt shuffled, every map is another: they show the models, not just the pictures."
        )
    lost = ", ".join(t for t in galleries.shown if t not in sound)
    return (
        text
        + f"Do not read the maps of {lost}: they stay much the same with what was learnt shuffled."
    )


def build_panels(galleries: Galleries, targets: list[str]) -> list[dict[str, Any]]:
    """Return a panel a target, in their order; one without a gallery says so, so that every menu has the same targets."""
    if not galleries.shown:
        return []
    return [
        {"target": t, "gallery": galleries.shown.get(t), "is_stale": t in galleries.stale}
        for t in targets
    ]


def list_rows(galleries: Galleries) -> list[dict[str, Any]]:
    """Return what programs want to know of each gallery."""
    names = ("target", "cut", "model", "method", "limit")
    return [
        {
            **{name: g.facts[name] for name in names},
            "rank_correlation": g.facts["sanity"]["rank_correlation"],
        }
        for g in galleries.shown.values()
    ]
