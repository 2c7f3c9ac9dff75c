"""Render `map.html`: one file that shows every place on a map, without a network."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from extract.config.arrays import Floats
from models.explaining.drawing import DIVERGING
from reports.data.collect import Collected
from reports.data.places import Places
from reports.data.words import SPLITS, explain_model
from reports.page.page import build_environment, embed_json, embed_script
from reports.sections.answer import build_answers
from reports.sections.headline import build_headline, describe_direction
from reports.sections.maps import ENDS, VIRIDIS

_HERE = Path(__file__).parent
_UNITS = {"tile": 60_000, "area": 8_192}  # of the longer side: what places are rounded to
_STEPS = 65_534  # of a value between its least and its largest; one more means that it is missing
_FINEST = 2  # units: what is less in a boundary is drawn straight


def render_map(collected: Collected, places: Places) -> str:
    """Return the map as HTML, with every name escaped."""
    script = (_HERE / "map.js").read_text(encoding="utf-8")
    verdicts = {answer.target: answer.verdict for answer in build_answers(collected)}
    styles = [(_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "map.css")]
    return (
        build_environment()
        .get_template("map.html")
        .render(
            title=collected.settings.title,
            kind=places.kind,
            targets=places.targets,
            n_places=len(places.names),
            headline=build_headline(collected),
            findings=collected.audit["findings"] if collected.audit else [],
            random_backbones=collected.random_backbones,
            direction=describe_direction(collected),
            split=collected.split,
            split_words=SPLITS.get(collected.split, f"split {collected.split}"),
            css=Markup("\n".join(styles)),
            data=Markup(embed_json(describe_places(places, verdicts))),
            script=Markup(embed_script(script)),
        )
    )


def describe_places(places: Places, verdicts: dict[str, str]) -> dict[str, Any]:
    """Return what the map draws: places in whole units from the north-west, and their values.

    Parameters
    ----------
    verdicts : of each target, beside the best baseline.
    """
    west, south, east, north = _measure_bounds(places)
    unit = max(east - west, north - south) / _UNITS[places.kind]
    origin = np.array([west, north])
    document: dict[str, Any] = {
        "kind": places.kind,
        "width": (east - west) / unit,
        "height": (north - south) / unit,
        "side": places.side_m / unit,
        "names": places.names.tolist(),
        "xy": encode_shorts(_count_units(places.xy, origin, unit)),
        "scales": {"viridis": VIRIDIS, "diverging": DIVERGING},
    }
    if places.kind == "area":
        document["shapes"] = _list_rings(places.polygons, origin, unit)
    else:
        numbers, areas = pd.factorize(pd.Series(places.areas))
        document["areas"] = areas.tolist()
        document["area"] = base64.b64encode(numbers.astype("<u4").tobytes()).decode()
    document["targets"] = [
        _describe_target(places, target, verdicts.get(target, "")) for target in places.targets
    ]
    return document


def _measure_bounds(places: Places) -> tuple[float, ...]:
    """Return west, south, east and north of all places."""
    if places.kind == "area":
        return tuple(map(float, places.polygons.total_bounds))
    low = places.xy.min(axis=0) - places.side_m / 2
    high = places.xy.max(axis=0) + places.side_m / 2
    return (*low.tolist(), *high.tolist())


def _count_units(xy: Floats, origin: Floats, unit: float) -> Floats:
    """Return coordinates (n, 2) in whole units to the east and to the south."""
    counts: Floats = np.rint((xy - origin) / unit * [1, -1])
    return counts


def _list_rings(polygons: Any, origin: Floats, unit: float) -> list[list[list[int]]]:
    """Return the rings of each polygon: a first point, then the steps to the next ones."""
    simple = polygons.simplify(_FINEST * unit)
    listed = []
    for shape in simple:
        parts = getattr(shape, "geoms", [shape])  # mended polygons may hold lines beside
        areal = [part for part in parts if part.geom_type == "Polygon"]
        rings = [ring for part in areal for ring in (part.exterior, *part.interiors)]
        listed.append([_list_steps(np.array(ring.coords)[:, :2], origin, unit) for ring in rings])
    return listed


def _list_steps(xy: Floats, origin: Floats, unit: float) -> list[int]:
    points = _count_units(xy, origin, unit).astype(int)
    steps = np.diff(points[:-1], axis=0, prepend=0)
    steps_flat: list[int] = steps.ravel().tolist()
    return steps_flat


def _describe_target(places: Places, target: str, verdict: str) -> dict[str, Any]:
    truth = places.truth[target].to_numpy()
    prediction = places.prediction[target].to_numpy()
    both = np.concatenate([truth, prediction])
    least = float(np.nanmin(both))
    step = float(np.nanmax(both) - least) / _STEPS or 1.0
    low, high = np.nanquantile(truth, ENDS).tolist()
    model, cut = places.models[target]
    words = explain_model(model)
    return {
        "name": target,
        "model": f"{model} ({words})" if words else model,
        "cut": "" if cut in ("none", "all") else cut,
        "verdict": verdict,
        "least": least,
        "step": step,
        "truth": encode_shorts((truth - least) / step),
        "prediction": encode_shorts((prediction - least) / step),
        "low": low,
        "high": high,
        "spread": float(np.nanquantile(np.abs(prediction - truth), ENDS[1])) or 1.0,
        "halves": {
            f"{round(100 * float(nominal))} %": half
            for nominal, half in sorted(places.half_widths[target].items())
        },
    }


def encode_shorts(values: Floats) -> str:
    """Return whole numbers from 0 to 65,534 as base64 of two bytes each; 65,535 for NaN."""
    known = np.nan_to_num(np.rint(values), nan=_STEPS + 1)
    return base64.b64encode(known.astype("<u2").tobytes()).decode()
