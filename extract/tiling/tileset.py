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

import numpy as np
import pandas as pd

from extract.config.arrays import Array, Floats
from extract.errors import RasterError
from extract.files.atomic import write_atomically
from extract.tiling.geo import name_crs
from extract.tiling.lattice import Lattice
from extract.tiling.mosaic import Mosaic
from extract.tiling.next_settings import render_settings
from extract.tiling.options import Request

SCHEMA = "roofline.tiles"
SCHEMA_VERSION = 1
_OUTSIDE = {"centre": "its centre lies in no area", "overlap": "no area overlaps it"}


class Tileset:
    """One folder of tiles, of one request and the rasters that it names.

    Attributes
    ----------
    settings : path of the settings file for the next command.
    """

    def __init__(
        self,
        request: Request,
        surface: Mosaic,
        terrain: Mosaic | None,
    ) -> None:
        self._request = request
        self._folder = request.out
        self._crs = name_crs(surface.crs)
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", request.out.resolve().name)
        self._name = name.strip("-_.") or "tiles"
        self.settings = request.out / f"{self._name}.toml"
        self._journal = request.out / "progress.jsonl"
        inputs = {
            "surface": _fingerprint_sheets(surface),
            "terrain": _fingerprint_sheets(terrain),
            "areas": _fingerprint_source(request.areas),
            "labels": _fingerprint_source(request.labels),
        }
        self._source = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "options": request.as_json(),
            "crs": self._crs,
            "cell_m": surface.cell_m,
            "stretch": request.describe_stretch(),
            "inputs": inputs,
        }

    def claim(self, *, fresh: bool) -> None:
        """Make the folder this request's, or check that it is.

        Raises
        ------
        RasterError : it holds tiles made otherwise (the text says what differs), or other files.
        """
        path = self._folder / "tiles.json"
        if path.is_file():
            made_by = _read_json(path)
            differences = _compare(made_by, self._source)
            if differences and not fresh:
                raise RasterError(
                    f"{self._folder}: holds tiles made otherwise: {differences}. "
                    "Name another folder, or throw them away with --fresh."
                )
            if differences:
                self._clear()
        else:
            names = {other.name for other in self._folder.iterdir()}
            others = names - {".lock"}
            if others:
                raise RasterError(
                    f"{self._folder}: holds files ({min(others)}) and no tiles made before. "
                    "Name an empty or a new folder."
                )
        images = self._folder / "images"
        images.mkdir(exist_ok=True)
        if not path.is_file():
            document = json.dumps(self._source, indent=1)
            self._write("tiles.json", document)

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
        pictures = self._folder.glob(f"images/*.{self._request.format}")
        there = {picture.stem for picture in pictures}
        made = pd.read_csv(table, usecols=["id"], dtype=str)
        return there.issuperset(made["id"])

    def read_journal(self) -> dict[int, list[float]]:
        """Return the blocks that are on disk, with their tiles' shares without data.

        Raises
        ------
        RasterError : it is not a journal; only a last line that a kill cut off is left out.
        """
        if not self._journal.is_file():
            return {}
        text = self._journal.read_text(encoding="utf-8")
        *lines, _ = text.split("\n")
        blocks = {}
        try:
            for line in lines:
                number, shares = json.loads(line)
                blocks[int(number)] = [float(share) for share in shares]
            return blocks
        except (ValueError, TypeError) as error:
            raise RasterError(
                f"{self._journal}: not what `tiles` wrote ({error}). "
                "Throw the tiles away with --fresh."
            ) from None

    @contextmanager
    def journal(self) -> Iterator[Callable[[int, list[float]], None]]:
        """Yield a function that writes a block's shares, and returns when they are on disk."""
        blocks = self.read_journal()
        lines = [json.dumps(block) + "\n" for block in blocks.items()]
        self._write(self._journal.name, "".join(lines))
        with self._journal.open("a", encoding="utf-8") as file:

            def write(number: int, shares: list[float]) -> None:
                rounded = [round(share, 4) for share in shares]
                line = json.dumps([number, rounded])
                file.write(line + "\n")
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
        request = self._request
        frame = pd.DataFrame({"id": lattice.ids()})
        frame[["x", "y"]] = lattice.corners() + request.size_m / 2
        frame["area"] = area
        is_outside = area == ""
        has_data = shares <= request.max_nodata
        is_kept = has_data & ~is_outside
        table = frame[is_kept]
        percent = (100 * shares).round(1).astype(str)
        frame["reason"] = np.char.add(percent, " % of it has no data")
        frame.loc[is_outside, "reason"] = _OUTSIDE[request.rule]
        skipped = frame[~is_kept]
        if table.empty:
            n_outside = is_outside.sum()
            raise RasterError(
                f"{self._folder}: no tile is left of {len(frame)}: {len(frame) - n_outside} lack "
                f"data, {n_outside} lie in no area. Look at the areas, or raise --max-nodata."
            )
        table = table.assign(nodata=shares[is_kept])
        if request.areas is None:
            table = table.drop(columns="area")
        if labels is not None:
            table = table.join(labels, on="area", validate="many_to_one")
        self._write_table("skipped.csv", skipped)
        if not self.settings.exists():
            text = render_settings(
                request,
                table,
                name=self._name,
                crs=self._crs,
            )
            self._write(self.settings.name, text)
        self._write_table("tiles.csv", table)
        self._journal.unlink()

    def counts(self) -> tuple[int, int, int]:
        """Count tiles, those left out for want of data, and those in no area."""
        made = self._folder / "tiles.csv"
        left_out = self._folder / "skipped.csv"
        table = pd.read_csv(made, usecols=["id"])
        skipped = pd.read_csv(
            left_out,
            usecols=["area"],
            keep_default_na=False,
            dtype=str,
        )
        is_outside = skipped["area"] == ""
        n_outside = int(is_outside.sum())
        n_nodata = len(skipped) - n_outside
        return len(table), n_nodata, n_outside

    def _write_table(self, name: str, table: pd.DataFrame) -> None:
        text = table.to_csv(index=False, lineterminator="\n")
        self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        with write_atomically(self._folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def _fingerprint_sheets(mosaic: Mosaic | None) -> list[Any]:
    if mosaic is None:
        return []
    return [_fingerprint(sheet.path) for sheet in mosaic.sheets]


def _fingerprint_source(source: str | Path | None) -> list[Any]:
    """Return the fingerprint of the file of `FILE` or `FILE:LAYER`, if any."""
    if source is None:
        return []
    path = Path(source)
    if not path.exists():
        file, _, _ = str(source).rpartition(":")
        path = Path(file)
    return [_fingerprint(path)]


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
    is_ours = isinstance(document, dict) and document.get("schema") == SCHEMA
    if not is_ours:
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
        before = json.dumps(was.get(key))
        after = json.dumps(now.get(key))
        if before == after:
            continue
        difference = f"{key} was {before}, now {after}"
        is_short = len(difference) < 150
        differences.append(difference if is_short else key)
    return "; ".join(differences)


def _flatten(document: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for key, value in document.items():
        if not isinstance(value, dict):
            flat[key] = value
            continue
        for name, part in value.items():
            flat[f"{key}.{name}"] = part
    return flat
