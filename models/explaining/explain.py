"""What the kept models look at: heat maps of some tiles of each target, written under `explain/`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from extract.config.cuts import Cut
from extract.config.suggestions import suggest
from extract.errors import KeptModelError, NoFeatureMapError, RunFileError
from models.data.arrays import Floats
from models.execution.fit_cell import Inputs, open_inputs
from models.explaining.drawing import (
    draw_heat,
    draw_overlay,
    encode_png,
    measure_limit,
    place_beside,
)
from models.explaining.explained_model import Opened, find_neighbours, open_subject
from models.explaining.explanations import (
    KINDS,
    Explanation,
    explanation_folder,
    name_file,
    read_explanation,
    write_explanation,
)
from models.explaining.feature_maps import Maps, Places, spread_sample
from models.explaining.heat_maps import (
    Method,
    Subject,
    choose_method,
    describe_method,
    explain,
    predict_subject,
    rank_correlation,
)
from models.explaining.tile_selection import choose_gallery, find_tiles, read_predicted_tiles
from models.settings import FitSettings
from models.store.kept_models import KeptModel, find_kept, list_kept

LOG = logging.getLogger(__name__)
GALLERY = "gallery"
# tiles and seeds of the sanity check
N_CHECKED = 5
SHUFFLES = (0, 1, 2)
_SAME = 0.5  # a rank correlation above which the map does not depend on what was learnt


class Asked(NamedTuple):
    """What is to be explained.

    Attributes
    ----------
    model, cut : of the kept model; None for the best that sees pictures, or of each that [models] keep names, the best.
    tiles : `gallery`, or ids with commas between.
    method : `auto`, or one of `models.explaining.heat_maps.METHODS`.
    """

    model: str | None = None
    cut: str | None = None
    tiles: str = GALLERY
    method: str = "auto"


class Explained(NamedTuple):
    """What was written, or for what reason a target was left out (`note`)."""

    target: str
    explanation: Explanation | None
    note: str = ""


def explain_targets(
    settings: FitSettings, asked: Asked, target: str | None = None
) -> Iterator[Explained]:
    """Explain one target, or all; of all, those whose kept model sees no picture, or no places of one, are left out with a note.

    Raises
    ------
    ValueError : an unknown target, model or tile, or features, pictures or models that cannot be used.
    """
    names = settings.targets.names
    if target is not None and target not in names:
        raise ValueError(
            f"target {target!r}: unknown; known: {', '.join(names)}.{suggest(target, names)}"
        )
    inputs = open_inputs(settings)
    found: list[tuple[str, KeptModel]] = []
    for name in names if target is None else [target]:
        try:
            found += [(name, kept) for kept in _find_models(settings, name, asked)]
        except KeptModelError as error:
            if target is not None:
                raise
            yield Explained(name, None, str(error))
    places: dict[Cut, Places] = {}
    for name, kept in sorted(found, key=lambda item: str(item[1].cell.cut)):
        cut = kept.cut
        places = places if cut in places else {cut: Places(settings, inputs.tiles, cut)}
        try:
            yield Explained(name, explain_kept(inputs, kept, places[cut], asked))
        except NoFeatureMapError as error:
            if target is not None:
                raise
            yield Explained(name, None, f"target {name!r}: {error}")


def _find_models(settings: FitSettings, target: str, asked: Asked) -> list[KeptModel]:
    """Return the model that is asked for; or, where the settings name models to keep, the best kept one of each name."""
    best = find_kept(settings.folder, target, model=asked.model, cut=asked.cut)
    keep = settings.models.keep
    if asked.model or asked.cut or isinstance(keep, str):
        return [best]
    seeing = [kept for kept in list_kept(settings.folder, target) if isinstance(kept.cell.cut, Cut)]
    return list({kept.cell.model: kept for kept in reversed(seeing)}.values())


def explain_kept(inputs: Inputs, kept: KeptModel, places: Places, asked: Asked) -> Explanation:
    """Explain a kept model on a gallery, or on the tiles that are asked for, and write what it looks at.

    Tiles that are asked for join those that were explained earlier, on the same colours.
    """
    start = time.perf_counter()
    folder = inputs.settings.folder
    gallery = _choose_tiles(inputs, kept, asked)
    opened = open_subject(inputs, kept, gallery)
    method = choose_method(opened.subject.model, asked.method)
    maps = places.maps(gallery["row"].to_numpy())
    heat = explain(opened.subject, maps, method)
    path = explanation_folder(folder, str(kept.facts["target"]), kept.cell.cut, kept.cell.model)
    earlier = None if asked.tiles == GALLERY else _read_earlier(path, kept, method)
    limit = measure_limit(heat) if earlier is None else float(earlier.facts["limit"])
    tiles, pictures = _draw_tiles(inputs, opened, gallery, places, heat=heat, limit=limit)
    facts = _describe(kept, opened, method, maps=maps, heat=heat) | {"limit": limit}
    tiles = tiles.assign(method=method)
    if earlier is not None:
        known = tiles["id"].map(earlier.tiles.drop_duplicates("id").set_index("id")["role"])
        tiles["role"] = known.fillna(tiles["role"])  # one of the gallery stays where it was
        kept_tiles = earlier.tiles[~earlier.tiles["id"].isin(tiles["id"])]
        tiles = pd.concat([kept_tiles, tiles], ignore_index=True)
        facts["sanity"] = earlier.facts["sanity"]
    write_explanation(path, tiles, pictures, facts | {"seconds": time.perf_counter() - start})
    return read_explanation(path)


def _choose_tiles(inputs: Inputs, kept: KeptModel, asked: Asked) -> pd.DataFrame:
    target = str(kept.facts["target"])
    tiles = inputs.tiles
    predicted = read_predicted_tiles(inputs.settings.folder, kept.cell, target, tiles)
    if asked.tiles == GALLERY:
        return choose_gallery(predicted, tiles.area).reset_index(drop=True)
    names = [name.strip() for name in asked.tiles.split(",") if name.strip()]
    truth = tiles.classes[target] if target in tiles.classes else tiles.targets[target]
    frame = find_tiles(names, tiles, predicted)
    return frame.assign(truth=truth.to_numpy()[frame["row"]])


def _read_earlier(path: Any, kept: KeptModel, method: Method) -> Explanation | None:
    """Return what was explained earlier of the same fitted model by the same method."""
    try:
        earlier = read_explanation(path)
    except RunFileError:
        return None
    return (
        earlier
        if (earlier.facts["key"], earlier.facts["method"]) == (kept.facts["key"], method)
        else None
    )


def _draw_tiles(
    inputs: Inputs,
    opened: Opened,
    gallery: pd.DataFrame,
    places: Places,
    *,
    heat: Floats,
    limit: float,
) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Draw tile, heat, overlay and neighbours of each tile; give the table and the files."""
    rows: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    shown = places.pictures(gallery["row"].to_numpy())
    explained = predict_subject(opened.subject)
    for i, one in enumerate(gallery.to_dict("records")):
        name = name_file(one["id"])
        drawn = {
            "tile": shown[i],
            "heat": draw_heat(heat[i], limit, len(shown[i])),
            "overlay": draw_overlay(shown[i], heat[i], limit),
        }
        near = find_neighbours(opened, i)
        if near:
            drawn["neighbours"] = place_beside(
                list(places.pictures(np.array([n.row for n in near])))
            )
        files |= {f"{name}_{kind}.png": encode_png(picture) for kind, picture in drawn.items()}
        ids = inputs.tiles.id.iloc[[n.row for n in near]].astype(str).tolist()
        rows.append(
            {
                "id": one["id"],
                "truth": one["truth"],
                "prediction": one["prediction"],
                "role": one["role"],
                "explained": explained[i],
                **{kind: f"{name}_{kind}.png" if kind in drawn else "" for kind in KINDS},
                "neighbour_ids": ids,
                "neighbour_truths": [n.truth for n in near],
            }
        )
    return pd.DataFrame(rows), files


def _describe(
    kept: KeptModel, opened: Opened, method: Method, *, maps: Maps, heat: Floats
) -> dict[str, Any]:
    facts = {
        name: kept.facts.get(name) for name in ("target", "task", "cut", "model", "split", "key")
    }
    spec = kept.cell.spec
    words = describe_method(method, area=spec.area, groups=spec.groups)
    return {
        **facts,
        "method": method,
        "words": words,
        "sanity": check_sanity(opened.subject, maps, method, heat),
        "refitted": "The map is of the model that was refitted on all tiles; the prediction is out of fold.",
    }


def check_sanity(subject: Subject, maps: Maps, method: Method, heat: Floats) -> dict[str, Any]:
    """Compare maps with those of the same model whose learnt weights have changed places.

    Adebayo et al. 2018 (arXiv:1810.03292): where the maps stay alike they show the picture, not what was learnt.

    Returns
    -------
    `rank_correlation` (mean over tiles and shuffles of Spearman's, null where none varies), `depends_on_weights`, `n_tiles`
    and `shuffles`.
    """
    some = spread_sample(np.arange(len(maps)), N_CHECKED)
    few = subject.take(some)
    found = [
        rank_correlation(heat[some], explain(few, maps[some], method, shuffle=seed))
        for seed in SHUFFLES
    ]
    known = [value for value in found if np.isfinite(value)]
    mean = float(np.mean(known)) if known else None
    return {
        "rank_correlation": mean,
        "depends_on_weights": mean is not None and mean < _SAME,
        "n_tiles": len(some),
        "shuffles": len(SHUFFLES),
    }
