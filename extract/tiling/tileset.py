"""The folder that `tiles` writes: pictures, a journal while they are made, and then the table, written last.

Schema `roofline.tiles` of its `tiles.json`, version 1. To raise it: add one to `SCHEMA_VERSION`, teach `Tileset` the old
version, and write a line in CHANGELOG.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from extract.errors import RasterError
from extract.files.atomic import publish
from extract.tiling.geo import name_crs
from extract.tiling.lattice import Lattice
from extract.tiling.mosaic import Mosaic
from extract.tiling.options import Request
from extract.tiling.relief import CHANNELS, COLOURS

SCHEMA = "roofline.tiles"
SCHEMA_VERSION = 1
FOLDS = 5
BLOCK_M = 2000.0


class Tileset:
    """One folder of tiles, of one request and the rasters that it names.

    Attributes
    ----------
    folder : where all is written. settings : the settings file for the next command.
    """

    def __init__(self, request: Request, surface: Mosaic, terrain: Mosaic | None) -> None:
        self._request = request
        self.folder = request.out
        self._crs = name_crs(surface.crs)
        self.name = (
            re.sub(r"[^A-Za-z0-9_.-]+", "-", request.out.resolve().name).strip("-_.") or "tiles"
        )
        self.settings = request.out / f"{self.name}.toml"
        inputs = {
            "surface": [s.path for s in surface.sheets],
            "terrain": [s.path for s in terrain.sheets] if terrain else [],
            "areas": _files_of(request.areas),
            "labels": [request.labels] if request.labels else [],
        }
        self._stated = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "options": request.as_json(),
            "crs": self._crs,
            "cell_m": surface.cell_m,
            "stretch": _describe_stretch(request),
            "inputs": {
                key: [_fingerprint(path) for path in paths] for key, paths in inputs.items()
            },
        }

    def claim(self, *, fresh: bool) -> None:
        """Make the folder this request's, or find that it is.

        Raises
        ------
        RasterError : it holds tiles made otherwise (the text says what differs), or files that are not ours.
        """
        path = self.folder / "tiles.json"
        others = [p.name for p in self.folder.iterdir() if p.name != ".lock"]
        if others and not path.is_file():
            raise RasterError(
                f"{self.folder}: holds files ({sorted(others)[0]}) and no tiles made before. "
                "Name an empty or a new folder."
            )
        if path.is_file() and (differs := _compare(_read_json(path), self._stated)):
            if not fresh:
                raise RasterError(
                    f"{self.folder}: holds tiles made otherwise: {differs}. Name another folder, or throw "
                    "them away with --fresh."
                )
            self._clear()
        (self.folder / "images").mkdir(exist_ok=True)
        if not path.is_file():
            self._publish("tiles.json", json.dumps(self._stated, indent=1))

    def _clear(self) -> None:
        shutil.rmtree(self.folder / "images", ignore_errors=True)
        for name in (
            "tiles.csv",
            "skipped.csv",
            "progress.jsonl",
            self.settings.name,
            "tiles.json",
        ):
            (self.folder / name).unlink(missing_ok=True)

    @property
    def is_done(self) -> bool:
        """Return whether the table is there, which is written last, and every picture that it names."""
        table = self.folder / "tiles.csv"
        if not table.is_file():
            return False
        there = {path.name for path in (self.folder / "images").iterdir()}
        return all(
            f"{name}.{self._request.format}" in there
            for name in pd.read_csv(table, usecols=["id"], dtype=str)["id"]
        )

    def read_journal(self) -> dict[int, list[float]]:
        """Return the blocks that are on disk, with their tiles' shares without data; a line cut off by a kill is left out."""
        path = self.folder / "progress.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        try:
            return {
                int(number): [float(share) for share in shares]
                for number, shares in map(json.loads, lines)
            }
        except (ValueError, TypeError) as error:
            raise RasterError(
                f"{path}: not what `tiles` wrote ({error}). Throw the tiles away with --fresh."
            ) from None

    @contextmanager
    def journal(self) -> Iterator[Callable[[int, list[float]], None]]:
        """Open the journal; what it is given is on disk when the call returns."""
        path = self.folder / "progress.jsonl"
        kept = "".join(
            json.dumps([number, shares]) + "\n" for number, shares in self.read_journal().items()
        )
        self._publish(path.name, kept)
        with path.open("a", encoding="utf-8") as file:

            def write(number: int, shares: list[float]) -> None:
                file.write(json.dumps([number, [round(share, 4) for share in shares]]) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield write

    def finish(
        self,
        lattice: Lattice,
        area: NDArray[Any],
        shares: NDArray[Any],
        labels: pd.DataFrame | None,
    ) -> None:
        """Write the list of what was left out, the settings (those that are there stay), and the table.

        Parameters
        ----------
        area : (n_tiles,) of str, empty where a tile lies in none. shares : (n_tiles,), without data, NaN where not read.
        labels : a row an area, its code the index; None for none.
        """
        half = self._request.size_m / 2
        corners = lattice.corners()
        frame = pd.DataFrame(
            {
                "id": lattice.ids(),
                "x": corners[:, 0] + half,
                "y": corners[:, 1] + half,
                "area": area,
                "nodata": shares,
            }
        )
        where = (
            "its centre lies in no area"
            if self._request.rule == "centre"
            else "no area overlaps it"
        )
        is_kept = (shares <= self._request.max_nodata) & (area != "")
        reason = np.where(
            area == "",
            where,
            np.char.add(np.round(100 * shares, 1).astype(str), " % of it has no data"),
        )
        skipped = frame[~is_kept].assign(reason=reason[~is_kept])[
            ["id", "x", "y", "area", "reason"]
        ]
        table = frame[is_kept].drop(columns="area" if self._request.areas is None else [])
        if not len(table):
            raise RasterError(
                f"{self.folder}: no tile is left of {len(frame)}: {int((skipped['area'] != '').sum())} lack data, "
                f"{int((skipped['area'] == '').sum())} lie in no area. Look at the areas, or raise --max-nodata."
            )
        if labels is not None:
            table = table.merge(
                labels, left_on="area", right_index=True, how="left", validate="many_to_one"
            )
        self._publish("skipped.csv", skipped.to_csv(index=False, lineterminator="\n"))
        if not self.settings.exists():
            self._publish(self.settings.name, self._render(table))
        self._publish("tiles.csv", table.to_csv(index=False, lineterminator="\n"))
        (self.folder / "progress.jsonl").unlink()

    def counts(self) -> tuple[int, int, int]:
        """Count tiles, those left out for want of data, and those in no area."""
        skipped = pd.read_csv(
            self.folder / "skipped.csv", usecols=["area"], keep_default_na=False, dtype=str
        )["area"]
        n_tiles = len(pd.read_csv(self.folder / "tiles.csv", usecols=["id"]))
        return n_tiles, int((skipped != "").sum()), int((skipped == "").sum())

    def _publish(self, name: str, text: str) -> None:
        partial = self.folder / f"{name}.partial"
        partial.write_text(text, encoding="utf-8")
        publish(partial, self.folder / name)

    def _render(self, table: pd.DataFrame) -> str:
        """Write settings for the next command."""
        asked = self._request
        limits = _describe_stretch(asked).items()
        stretch = "; ".join(
            f"{name} {low:g} to {high:g} {unit}".strip() for name, (low, high, unit) in limits
        )
        lines = [
            f"# Made by `python -m extract tiles`; tiles.json says from what. 0 and 255 in every tile: {stretch}.",
            f"name = {json.dumps(self.name)}",
            "",
            "[tiles]",
            'table = "tiles.csv"',
            'images = "images"',
            f'path = "{{id}}.{asked.format}"',
            f'area = "{"id" if asked.areas is None else "area"}"',
            'x = "x"',
            'y = "y"',
            f"size_m = {asked.size_m:g}",
            f"crs = {json.dumps(self._crs)}",
        ]
        lines += ["scale = [0, 1]"] if asked.format == "tiff" else []
        lines += [f"groups = {json.dumps(asked.groups)}"] if asked.groups else []
        lines += (
            ["", "[targets]", f"columns = {json.dumps(asked.targets)}"] if asked.targets else []
        )
        lines += ["", "[extract]", 'cuts = ["vgg16/block5_pool:avg", "resnet50v2/post_relu:avg"]']
        lines += [*_render_models(table), *_render_boundaries(asked)] if asked.targets else []
        return "\n".join(lines) + "\n"


def _render_models(table: pd.DataFrame) -> list[str]:
    """Choose the splits that this many areas and this much ground allow."""
    blocks = (table[["x", "y"]] // BLOCK_M).drop_duplicates()
    splits = ["random", "area", *(["block"] if len(blocks) >= FOLDS else [])]
    folds = max(2, min(FOLDS, table["area"].nunique()))
    note = (
        ""
        if "block" in splits
        else f"   # no block: fewer than {FOLDS} squares of {BLOCK_M:g} m hold tiles"
    )
    return ["", "[models]", f"splits = {json.dumps(splits)}{note}", f"folds = {folds}"]


def _render_boundaries(asked: Request) -> list[str]:
    """Name the polygons for the report's maps, where they are a file of one layer that says its CRS."""
    if asked.areas is None or asked.areas_crs or not Path(asked.areas).exists():
        return []
    path = os.path.relpath(Path(asked.areas).resolve(), asked.out.resolve())
    return [
        "",
        "[reports]",
        f"boundaries = {json.dumps(path, ensure_ascii=False)}",
        f"boundaries_code = {json.dumps(asked.area_code, ensure_ascii=False)}",
    ]


def _files_of(source: str | None) -> list[Path]:
    if source is None:
        return []
    path = Path(source)
    return [path if path.exists() else Path(source.rpartition(":")[0])]


def _fingerprint(path: Path) -> list[Any]:
    info = path.stat()
    return [path.name, info.st_size, int(info.st_mtime)]


def _describe_stretch(request: Request) -> dict[str, tuple[float, float, str]]:
    if request.channels == (COLOURS,):
        return {COLOURS: (0.0, 255.0, "as they are")}
    return {
        name: (*limits, CHANNELS[name].unit)
        for name, limits in zip(request.channels, request.limits, strict=True)
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RasterError(
            f"{path}: not JSON ({error}). Remove the folder, or name another."
        ) from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise RasterError(
            f"{path}: expected schema {SCHEMA!r}; `tiles` did not write it. Name another folder."
        )
    return document


def _compare(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name what differs, with both values where they are short."""
    wanted = json.loads(json.dumps(wanted))
    said = []
    for key in dict.fromkeys([*wanted, *found]):
        one = found.get(key)
        other = wanted.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            said += [
                f"{key}.{name}" + _values(one.get(name), other.get(name))
                for name in dict.fromkeys([*one, *other])
                if one.get(name) != other.get(name)
            ]
        elif one != other:
            said.append(key + _values(one, other))
    return "; ".join(said)


def _values(one: Any, other: Any) -> str:
    text = f" was {json.dumps(one)}, now {json.dumps(other)}"
    return text if len(text) < 120 else ""
