"""Keep the folder that `tiles` writes: pictures, a journal meanwhile, and the table, written last.

Schema `roofline.tiles` of its `tiles.json`, version 1. To raise it: add one to `SCHEMA_VERSION`,
teach `Tileset` the old version, and write a line in CHANGELOG.md.
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

import pandas as pd

from extract.config.arrays import Array, Floats
from extract.errors import RasterError
from extract.files.atomic import write_atomically
from extract.tiling.geo import name_crs
from extract.tiling.lattice import Lattice
from extract.tiling.mosaic import Mosaic
from extract.tiling.options import Request

SCHEMA = "roofline.tiles"
SCHEMA_VERSION = 1
FOLDS = 5
BLOCK_M = 2000.0


class Tileset:
    """One folder of tiles, of one request and the rasters that it names.

    Attributes
    ----------
    settings : path of the settings file for the next command.
    """

    def __init__(self, request: Request, surface: Mosaic, terrain: Mosaic | None) -> None:
        self._request = request
        self._folder = request.out
        self._crs = name_crs(surface.crs)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.out.resolve().name)
        self._name = name.strip("-_.") or "tiles"
        self.settings = request.out / f"{self._name}.toml"
        self._journal = request.out / "progress.jsonl"
        inputs = {
            "surface": [sheet.path for sheet in surface.sheets],
            "terrain": [sheet.path for sheet in terrain.sheets] if terrain else [],
            "areas": _list_files(request.areas),
            "labels": _list_files(request.labels),
        }
        self._source = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "options": request.as_json(),
            "crs": self._crs,
            "cell_m": surface.cell_m,
            "stretch": request.describe_stretch(),
            "inputs": {key: list(map(_fingerprint, paths)) for key, paths in inputs.items()},
        }

    def claim(self, *, fresh: bool) -> None:
        """Make the folder this request's, or check that it is.

        Raises
        ------
        RasterError : it holds tiles made otherwise (the text says what differs), or other files.
        """
        path = self._folder / "tiles.json"
        others = sorted(p.name for p in self._folder.iterdir() if p.name != ".lock")
        if others and not path.is_file():
            raise RasterError(
                f"{self._folder}: holds files ({others[0]}) and no tiles made before. "
                "Name an empty or a new folder."
            )
        if path.is_file():
            differences = _compare(_read_json(path), self._source)
            if differences and not fresh:
                raise RasterError(
                    f"{self._folder}: holds tiles made otherwise: {differences}. "
                    "Name another folder, or throw them away with --fresh."
                )
            if differences:
                self._clear()
        (self._folder / "images").mkdir(exist_ok=True)
        if not path.is_file():
            self._write("tiles.json", json.dumps(self._source, indent=1))

    def _clear(self) -> None:
        shutil.rmtree(self._folder / "images", ignore_errors=True)
        for name in ("tiles.csv", "skipped.csv", self._journal.name, self.settings.name):
            (self._folder / name).unlink(missing_ok=True)
        (self._folder / "tiles.json").unlink()

    def is_done(self) -> bool:
        """Return whether the table is there, and every picture that it names."""
        table = self._folder / "tiles.csv"
        if not table.is_file():
            return False
        there = {path.stem for path in self._folder.glob(f"images/*.{self._request.format}")}
        return there.issuperset(pd.read_csv(table, usecols=["id"], dtype=str)["id"])

    def read_journal(self) -> dict[int, list[float]]:
        """Return the blocks that are on disk, with their tiles' shares without data.

        Raises
        ------
        RasterError : it is not a journal; only a last line that a kill cut off is left out.
        """
        if not self._journal.is_file():
            return {}
        lines = self._journal.read_text(encoding="utf-8").split("\n")[:-1]
        try:
            return {
                int(number): list(map(float, shares)) for number, shares in map(json.loads, lines)
            }
        except (ValueError, TypeError) as error:
            raise RasterError(
                f"{self._journal}: not what `tiles` wrote ({error}). "
                "Throw the tiles away with --fresh."
            ) from None

    @contextmanager
    def journal(self) -> Iterator[Callable[[int, list[float]], None]]:
        """Yield a function that writes a block's shares, and returns when they are on disk."""
        lines = [json.dumps(item) + "\n" for item in self.read_journal().items()]
        self._write(self._journal.name, "".join(lines))
        with self._journal.open("a", encoding="utf-8") as file:

            def write(number: int, shares: list[float]) -> None:
                rounded = [round(share, 4) for share in shares]
                file.write(json.dumps([number, rounded]) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield write

    def finish(
        self,
        lattice: Lattice,
        area: Array,
        shares: Floats,
        labels: pd.DataFrame | None,
    ) -> None:
        """Write the list of what was left out, the settings if there are none yet, and the table.

        Parameters
        ----------
        area : (n_tiles,) of str, '' where a tile lies in none.
        shares : (n_tiles,), without data, NaN where not read.
        labels : a row an area, its code the index; None for none.
        """
        x, y = (lattice.corners() + self._request.size_m / 2).T
        frame = pd.DataFrame({"id": lattice.ids(), "x": x, "y": y, "area": area, "nodata": shares})
        is_outside = frame["area"] == ""
        is_lost = ~is_outside & ~(frame["nodata"] <= self._request.max_nodata)
        percent = (100 * frame["nodata"]).round(1).astype(str)
        is_by_centre = self._request.rule == "centre"
        outside = "its centre lies in no area" if is_by_centre else "no area overlaps it"
        reason = (percent + " % of it has no data").mask(is_outside, outside)
        skipped = frame.drop(columns="nodata").assign(reason=reason)[is_outside | is_lost]
        table = frame[~is_outside & ~is_lost]
        if table.empty:
            raise RasterError(
                f"{self._folder}: no tile is left of {len(frame)}: {is_lost.sum()} lack data, "
                f"{is_outside.sum()} lie in no area. Look at the areas, or raise --max-nodata."
            )
        if self._request.areas is None:
            table = table.drop(columns="area")
        if labels is not None:
            table = table.join(labels, on="area", validate="many_to_one")
        self._write("skipped.csv", skipped.to_csv(index=False, lineterminator="\n"))
        if not self.settings.exists():
            self._write(self.settings.name, self._render(table))
        self._write("tiles.csv", table.to_csv(index=False, lineterminator="\n"))
        self._journal.unlink()

    def counts(self) -> tuple[int, int, int]:
        """Count tiles, those left out for want of data, and those in no area."""
        table = pd.read_csv(self._folder / "tiles.csv", usecols=["id"])
        skipped = pd.read_csv(self._folder / "skipped.csv", keep_default_na=False, dtype=str)
        n_outside = int((skipped["area"] == "").sum())
        return len(table), len(skipped) - n_outside, n_outside

    def _write(self, name: str, text: str) -> None:
        with write_atomically(self._folder / name) as partial:
            partial.write_text(text, encoding="utf-8")

    def _render(self, table: pd.DataFrame) -> str:
        """Return the settings for the next command."""
        request = self._request
        stretch = "; ".join(
            f"{name} {low:g} to {high:g} {unit}".strip()
            for name, (low, high, unit) in request.describe_stretch().items()
        )
        lines = [
            "# Made by `python -m extract tiles`; tiles.json says from what. "
            f"0 and 255 in every tile: {stretch}.",
            f"name = {json.dumps(self._name)}",
            "",
            "[tiles]",
            'table = "tiles.csv"',
            'images = "images"',
            f'path = "{{id}}.{request.format}"',
            f'area = "{"id" if request.areas is None else "area"}"',
            'x = "x"',
            'y = "y"',
            f"size_m = {request.size_m:g}",
            f"crs = {json.dumps(self._crs)}",
        ]
        if request.format == "tiff":
            lines.append("scale = [0, 1]")
        if request.groups:
            lines.append(f"groups = {json.dumps(request.groups)}")
        if request.targets:
            lines += ["", "[targets]", f"columns = {json.dumps(request.targets)}"]
        lines += ["", "[extract]", 'cuts = ["vgg16/block5_pool:avg", "resnet50v2/post_relu:avg"]']
        if request.targets:
            lines += [*_render_models(table), *_render_boundaries(request)]
        return "\n".join(lines) + "\n"


def _render_models(table: pd.DataFrame) -> list[str]:
    """Choose the splits that this many areas and this much ground allow."""
    blocks = (table[["x", "y"]] // BLOCK_M).drop_duplicates()
    splits = ["random", "area"]
    if len(blocks) >= FOLDS:
        splits.append("block")
    n_folds = max(2, min(FOLDS, table["area"].nunique()))
    return ["", "[models]", f"splits = {json.dumps(splits)}", f"folds = {n_folds}"]


def _render_boundaries(request: Request) -> list[str]:
    """Name the polygons for the report's maps, where they are one layer that says its CRS."""
    if request.areas is None or request.areas_crs or not Path(request.areas).exists():
        return []
    path = os.path.relpath(Path(request.areas).resolve(), request.out.resolve())
    return [
        "",
        "[reports]",
        f"boundaries = {json.dumps(path, ensure_ascii=False)}",
        f"boundaries_code = {json.dumps(request.area_code, ensure_ascii=False)}",
    ]


def _list_files(source: str | Path | None) -> list[Path]:
    """Return the file of `FILE` or `FILE:LAYER`, or none."""
    if source is None:
        return []
    path = Path(source)
    return [path if path.exists() else Path(str(source).rpartition(":")[0])]


def _fingerprint(path: Path) -> list[Any]:
    info = path.stat()
    return [path.name, info.st_size, int(info.st_mtime)]


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
    was = _flatten(found)
    now = _flatten(json.loads(json.dumps(wanted)))
    differences = []
    for key in now | was:
        if was.get(key) != now.get(key):
            values = f" was {json.dumps(was.get(key))}, now {json.dumps(now.get(key))}"
            differences.append(key + values if len(values) < 120 else key)
    return "; ".join(differences)


def _flatten(document: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in document.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": part for name, part in value.items()})
        else:
            flat[key] = value
    return flat
