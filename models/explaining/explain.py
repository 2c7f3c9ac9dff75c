"""Explanations of the kept models: heat maps of some tiles of each target, under `explain/`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from extract.config.arrays import Floats
from extract.config.cuts import Cut
from extract.config.suggestions import suggest
from extract.errors import KeptModelError, NoFeatureMapError, RunFileError
from models.evaluation.current import open_current
from models.execution.experiment_data import ExperimentData, open_experiment
from models.explaining.drawing import (
    draw_heat,
    draw_overlay,
    encode_png,
    measure_limit,
    place_beside,
)
from models.explaining.explained_model import ExplainedModel
from models.explaining.explanations import (
    KINDS,
    Explanation,
    Sanity,
    explanation_folder,
    name_file,
    read_explanation,
    write_explanation,
)
from models.explaining.heat_maps import (
    Method,
    choose_method,
    describe_method,
    explain,
    measure_border,
    rank_correlation,
)
from models.explaining.kept_model import OpenedModel, find_neighbours, open_model
from models.explaining.tile_maps import Maps, TileMaps, spread_sample
from models.explaining.tile_selection import choose_gallery, find_tiles, read_predicted_tiles
from models.settings import FitSettings
from models.store.kept_models import KeptModel, find_kept, list_kept

GALLERY = "gallery"
N_CHECKED = 5  # tiles of the sanity check
SHUFFLES = (0, 1, 2)  # its seeds
_SAME = 0.5  # a rank correlation above which the map does not depend on what was learnt


class ExplainRequest(NamedTuple):
    """What is to be explained.

    Attributes
    ----------
    model, cut : of the kept model; None for the best that sees pictures, or, where [models] keep
        names models, for the best of each name.
    tiles : `gallery`, or ids with commas between.
    method : `auto`, or one of `models.explaining.heat_maps.Method`.
    """

    model: str | None = None
    cut: str | None = None
    tiles: str = GALLERY
    method: str = "auto"


class TargetExplanation(NamedTuple):
    """What was written of a target, or for what reason it was left out (`note`)."""

    target: str
    explanation: Explanation | None
    note: str = ""


def explain_targets(
    settings: FitSettings, request: ExplainRequest, target: str | None = None
) -> Iterator[TargetExplanation]:
    """Explain one target, or all.

    Of all, those whose kept model sees no picture, or no places of one, are left out with a note.

    Raises
    ------
    ValueError : an unknown target, model or tile, or features, pictures or models that cannot be
        used.
    """
    names = settings.targets.names
    if target is not None and target not in names:
        raise ValueError(
            f"target {target!r}: unknown; known: {', '.join(names)}.{suggest(target, names)}"
        )
    with open_current(settings):
        inputs = open_experiment(settings)
        asked = names if target is None else [target]
        yield from _explain_each(inputs, request, asked, is_strict=target is not None)


def _explain_each(
    inputs: ExperimentData, request: ExplainRequest, targets: list[str], *, is_strict: bool
) -> Iterator[TargetExplanation]:
    settings = inputs.settings
    by_cut: dict[Cut, TileMaps] = {}
    for name in targets:
        try:
            for kept in _find_models(settings, name, request):
                if kept.cut not in by_cut:
                    by_cut[kept.cut] = TileMaps(settings, inputs.tiles, kept.cut)
                tile_maps = by_cut[kept.cut]
                written = explain_kept(inputs, kept, tile_maps, request)
                yield TargetExplanation(name, written)
        except (KeptModelError, NoFeatureMapError) as error:
            if is_strict:
                raise
            prefix = "" if isinstance(error, KeptModelError) else f"target {name!r}: "
            yield TargetExplanation(name, None, f"{prefix}{error}")


def _find_models(settings: FitSettings, target: str, request: ExplainRequest) -> list[KeptModel]:
    """Return the model that is asked for, or the best kept one of each name in [models] keep."""
    best = find_kept(settings.folder, target, model=request.model, cut=request.cut)
    if request.model or request.cut or isinstance(settings.models.keep, str):
        return [best]
    by_name: dict[str, KeptModel] = {}
    for kept in list_kept(settings.folder, target):
        if isinstance(kept.cell.cut, Cut):
            by_name.setdefault(kept.cell.model, kept)
    return list(by_name.values())


def explain_kept(
    inputs: ExperimentData, kept: KeptModel, tile_maps: TileMaps, request: ExplainRequest
) -> Explanation:
    """Explain a kept model on a gallery, or on the tiles that are asked for, and write it.

    Tiles that are asked for join those that were explained earlier, on the same colours.
    """
    start = time.perf_counter()
    gallery = _choose_tiles(inputs, kept, request)
    opened = open_model(inputs, kept, gallery)
    explained = opened.explained
    method = choose_method(explained.model, request.method)
    rows = gallery["row"].to_numpy()
    maps = tile_maps.read_maps(rows)
    heat = explain(explained, maps, method)
    limit = measure_limit(heat)
    sanity = check_sanity(explained, maps, method, heat)
    border = measure_border(heat)
    cell = kept.cell
    target = str(kept.facts["target"])
    path = explanation_folder(inputs.settings.folder, target, cell.cut, cell.model)
    earlier = None
    if request.tiles != GALLERY:
        earlier = _read_earlier(path, kept, method)
    if earlier is not None:
        limit = float(earlier.facts["limit"])
        sanity = earlier.facts["sanity"]
        border = earlier.facts.get("border")
    tiles, pictures = _draw_tiles(inputs, opened, gallery, tile_maps, heat=heat, limit=limit)
    tiles["method"] = method
    if earlier is not None:
        tiles = _join_earlier(tiles, earlier.tiles)
    copied = ("target", "task", "cut", "model", "split", "key")
    facts = {
        **{name: kept.facts.get(name) for name in copied},
        "method": method,
        "words": describe_method(method, is_area=cell.spec.area, has_groups=cell.spec.groups),
        "sanity": sanity,
        "refitted": "The map is of the model that was refitted on all tiles; the prediction is "
        "out of fold.",
        "limit": limit,
        "border": border,
        "seconds": time.perf_counter() - start,
    }
    write_explanation(path, tiles, pictures, facts)
    return read_explanation(path)


def _choose_tiles(inputs: ExperimentData, kept: KeptModel, request: ExplainRequest) -> pd.DataFrame:
    target = str(kept.facts["target"])
    tiles = inputs.tiles
    predicted = read_predicted_tiles(inputs.settings.folder, kept.cell, target, tiles)
    if request.tiles == GALLERY:
        gallery = choose_gallery(predicted, tiles.area)
        return gallery.reset_index(drop=True)
    asked = [name.strip() for name in request.tiles.split(",")]
    names = [name for name in asked if name]
    truth = tiles.classes[target] if target in tiles.classes else tiles.targets[target]
    frame = find_tiles(names, tiles, predicted)
    of_rows = truth.to_numpy()[frame["row"]]
    return frame.assign(truth=of_rows)


def _read_earlier(path: Path, kept: KeptModel, method: Method) -> Explanation | None:
    """Return what was explained earlier of the same fitted model by the same method."""
    try:
        earlier = read_explanation(path)
    except RunFileError:
        return None
    is_same = earlier.facts["key"] == kept.facts["key"] and earlier.facts["method"] == method
    return earlier if is_same else None


def _join_earlier(tiles: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """Put tiles behind those explained earlier; one of the gallery keeps its role."""
    roles = earlier.set_index("id")["role"]
    known = tiles["id"].map(roles)
    tiles["role"] = known.fillna(tiles["role"])
    is_again = earlier["id"].isin(tiles["id"])
    others = earlier[~is_again]
    return pd.concat([others, tiles], ignore_index=True)


def _draw_tiles(
    inputs: ExperimentData,
    opened: OpenedModel,
    gallery: pd.DataFrame,
    tile_maps: TileMaps,
    *,
    heat: Floats,
    limit: float,
) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Draw tile, heat, overlay and neighbours of each tile; return the table and the files."""
    table = gallery[["id", "truth", "prediction", "role"]].copy()
    table["explained"] = opened.explained.predict()
    files: dict[str, bytes] = {}
    names = []
    neighbours = [find_neighbours(opened, i) for i in range(len(gallery))]
    for i, tile in enumerate(tile_maps.read_pictures(gallery["row"].to_numpy())):
        drawn = {
            "tile": tile,
            "heat": draw_heat(heat[i], limit, len(tile)),
            "overlay": draw_overlay(tile, heat[i], limit),
        }
        if neighbours[i]:
            rows = np.array([one.row for one in neighbours[i]])
            beside = list(tile_maps.read_pictures(rows))
            drawn["neighbours"] = place_beside(beside)
        stem = name_file(table["id"].iloc[i])
        named = {kind: f"{stem}_{kind}.png" for kind in drawn}
        files |= {named[kind]: encode_png(picture) for kind, picture in drawn.items()}
        names.append(dict.fromkeys(KINDS, "") | named)
    table[list(KINDS)] = pd.DataFrame(names).to_numpy()
    ids = inputs.tiles.id.astype(str)
    table["neighbour_ids"] = [[ids.iloc[one.row] for one in found] for found in neighbours]
    table["neighbour_truths"] = [[one.truth for one in found] for found in neighbours]
    return table, files


def check_sanity(explained: ExplainedModel, maps: Maps, method: Method, heat: Floats) -> Sanity:
    """Compare maps with those of the same model whose learnt weights are permuted.

    Adebayo et al. 2018 (arXiv:1810.03292): where the maps stay alike they show the picture, not
    what was learnt.
    """
    some = spread_sample(np.arange(len(maps)), N_CHECKED)
    few = explained.take(some)
    shuffled = [explain(few, maps[some], method, shuffle=seed) for seed in SHUFFLES]
    found = np.array([rank_correlation(heat[some], other) for other in shuffled])
    is_defined = np.isfinite(found)
    found = found[is_defined]
    mean = float(found.mean()) if len(found) else None
    return Sanity(
        rank_correlation=mean,
        depends_on_weights=mean is not None and mean < _SAME,
        n_tiles=len(some),
        shuffles=len(SHUFFLES),
    )
