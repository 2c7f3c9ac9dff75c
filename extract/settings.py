"""Read and check the settings file: the sections that all packages share, and [extract]."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from extract.config.arrays import ColourScale
from extract.config.cuts import PIXELS, Cut, CutField
from extract.config.sections import (
    OnceEach,
    SettingsPath,
    Strict,
    describe_problem,
    resolve_path,
)
from extract.config.suggestions import suggest
from extract.errors import SettingsError

Byte = Annotated[int, Field(ge=0, le=255)]
Names = Annotated[list[str], OnceEach]
Band = Annotated[int, Field(ge=1)]
LooseRange = Annotated[tuple[float, float], Field(strict=False)]
ColourRanges = Annotated[tuple[LooseRange, LooseRange, LooseRange], Field(strict=False)]
ColourBands = Annotated[tuple[Band, Band, Band], Field(strict=False)]

_FOLDERS = {"area": "id", "path": "{id}", "id": "id"}  # with `layout = "folders"`
_RANDOM = re.compile(r"^random:\d+$")


class GridSection(Strict):
    """Places from the id.

    x = ox + size·(id // rows) + size/2, y = oy − size·(id mod rows) − size/2.
    """

    rows: int = Field(gt=0)
    size_m: float = Field(gt=0)
    origin: Annotated[tuple[float, float], Field(strict=False)]


class TilesSection(Strict):
    """[tiles]: the table, the pictures, and what its columns mean.

    With `layout = "folders"` there is no table: every picture below `images` is a tile, and its
    columns are `id` (its path), `class` (the first folder on it), `folder` (all folders on it) and
    `file`.
    """

    layout: Literal["table", "folders"] = "table"
    table: SettingsPath | None = None
    images: SettingsPath
    path: str = "{id}.png"
    id: str = "id"
    area: str = ""
    x: str | None = None
    y: str | None = None
    grid: GridSection | None = None
    size_m: float | None = Field(default=None, gt=0)
    missing: Names = Field(default=[])  # what stands in the table for no value, besides nothing
    crs: str | None = Field(default=None, min_length=1)  # of x and y, as "EPSG:27700"
    groups: Names = Field(default=[])
    scale: LooseRange | None = None
    scales: ColourRanges | None = None  # of R, G and B
    bands: ColourBands | None = None  # of a TIFF, from 1
    nodata: float | None = None
    background: Annotated[tuple[Byte, Byte, Byte], Field(strict=False)] | None = None
    follow_links: bool = False
    max_pixels: int = Field(default=100_000_000, gt=0)
    strict: bool = False

    @model_validator(mode="before")
    @classmethod
    def _check_layout(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        layout = section.get("layout", "table")
        if section.keys() - cls.model_fields.keys():
            return section  # a misspelt key is to blame, not the one that is then missing
        if layout == "table":
            for key in ("table", "area"):
                if key not in section:
                    raise ValueError(
                        f"{key}: missing; the key has to be set, unless "
                        'layout = "folders" (a folder a class)'
                    )
        if layout != "folders":
            return section
        for key in ("table", "path", "id"):
            if section.get(key, _FOLDERS.get(key)) != _FOLDERS.get(key):
                raise ValueError(
                    f'{key}: layout = "folders" lists the pictures themselves; remove the key, '
                    "or the layout"
                )
        return {**_FOLDERS, **section}

    @model_validator(mode="after")
    def _check_place(self) -> TilesSection:
        if (self.x is None) != (self.y is None):
            raise ValueError("x and y go together: name both columns, or neither")
        if self.x is not None and self.grid is not None:
            raise ValueError("either x and y or grid says where a tile lies, not both: remove one")
        return self

    @model_validator(mode="after")
    def _check_one_scale(self) -> TilesSection:
        if self.scale is not None and self.scales is not None:
            raise ValueError("either scale, for all colours, or scales, one a colour: remove one")
        return self

    @field_validator("path")
    @classmethod
    def _check_path(cls, value: str) -> str:
        if value.startswith("/") or ".." in Path(value).parts:
            raise ValueError(
                f"expected a pattern inside the images folder, got {value!r}: remove the leading "
                "'/' or the '..', and set images to the folder itself"
            )
        if "{" not in value:
            raise ValueError(
                f"expected a pattern with a column in braces, as 'LIDAR_{{id}}.png', got {value!r}"
            )
        return value

    @field_validator("scale", "scales")
    @classmethod
    def _check_scale(cls, value: ColourScale | None) -> ColourScale | None:
        if value is None:
            return None
        for low, high in np.reshape(value, (-1, 2)).tolist():
            if low >= high:
                raise ValueError(
                    f"expected [low, high] with low < high, got {[low, high]}: "
                    "low becomes 0, high becomes 255"
                )
        return value

    @property
    def look(self) -> dict[str, Any]:
        """What decides how pictures become colours; embeddings of other values are others."""
        return self.model_dump(
            mode="json", include={"scale", "nodata", "background", "bands", "scales"}
        )

    @property
    def source(self) -> Path:
        """What lists the tiles: the table, or with `layout = "folders"` the images."""
        return self.images if self.table is None else self.table


class TargetsSection(Strict):
    """[targets]: the columns to predict, which are classes, and a file of the best reachable R².

    `made` names targets that are made of columns, written as in [tiles] path:
    `supergroup = "{SOAC11CD:.1}"` is the first character of SOAC11CD. `decimal`, `thousands` and
    `percent` say how numbers are written, as `NumberFormat`.
    """

    columns: Names = Field(default=[])
    classes: Names = Field(default=[])
    made: dict[str, str] = Field(default={})
    ceiling: SettingsPath | None = None
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'"] = ""
    percent: bool = False

    @model_validator(mode="after")
    def _check_marks(self) -> TargetsSection:
        if self.decimal == self.thousands:
            raise ValueError(
                f"decimal and thousands are both {self.decimal!r}: one mark cannot be both"
            )
        return self

    @property
    def names(self) -> list[str]:
        """Every target once: `columns`, then what only `classes` and `made` name."""
        return list(dict.fromkeys([*self.columns, *self.classes, *self.made]))


class ExtractSection(Strict):
    """[extract]: which networks, cut where, with which weights and numbers.

    Attributes
    ----------
    weights_sha256 : backbone → hash of its weights; other weights are refused.
    """

    cuts: Annotated[list[CutField], OnceEach] = Field(min_length=1)
    weights: str | dict[str, str] = "imagenet"
    weights_sha256: dict[str, str] = Field(default={})
    size: int = Field(default=224, ge=32, le=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    runtime: Literal["auto", "keras", "ncnn", "openvino"] = "auto"
    batch: int = Field(default=32, ge=1, le=4096)
    dtype: Literal["float16", "float32"] = "float16"
    shard: int = Field(default=1024, ge=1)
    engine: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    workers: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="after")
    def _check_scheduler(self) -> ExtractSection:
        if self.scheduler is not None and self.engine != "dask":
            raise ValueError(
                f'scheduler {self.scheduler!r} belongs to engine = "dask", got engine = '
                f"{self.engine!r}: set that engine, or remove the scheduler"
            )
        if self.scheduler is not None and self.workers is not None:
            raise ValueError(
                "either scheduler or workers, not both: the cluster of a scheduler has the workers "
                "that it has"
            )
        return self

    @field_validator("weights", mode="before")
    @classmethod
    def _check_weights(cls, value: Any, info: ValidationInfo) -> Any:
        """Check what weights come from, and make the paths of files absolute."""
        if not isinstance(value, dict):
            return _check_source(value)
        sources = {}
        for backbone, source in value.items():
            is_file = isinstance(source, str) and not source.startswith(("random:", "imagenet"))
            sources[backbone] = (
                str(resolve_path(Path(source), info)) if is_file else _check_source(source)
            )
        return sources

    @property
    def backbones(self) -> list[str]:
        """Names of the backbones that the cuts need, in the order of their first cut."""
        return list(dict.fromkeys(cut.backbone for cut in self.cuts))

    def cuts_of(self, backbone: str) -> list[Cut]:
        """Cuts of one backbone, in the order of the settings."""
        return [cut for cut in self.cuts if cut.backbone == backbone]

    def weights_of(self, backbone: str) -> str:
        """Return `imagenet`, `random:<seed>`, the path of a file, or `pixels` for itself."""
        if backbone == PIXELS:
            return PIXELS
        if isinstance(self.weights, str):
            return self.weights
        return self.weights.get(backbone, "imagenet")


def _check_source(source: Any) -> str:
    if isinstance(source, str) and (source == "imagenet" or _RANDOM.match(source)):
        return source
    raise ValueError(
        "expected 'imagenet', 'random:<seed>' or a table with one entry a backbone, as "
        f'{{ vgg16 = "vgg16.h5" }}, got {source!r}'
    )


class ExtractSettings(Strict):
    """The whole file as extract reads it; other packages read [models] and [reports]."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    out: SettingsPath | None = None
    tiles: TilesSection
    targets: TargetsSection = TargetsSection()
    extract: ExtractSection
    models: Any = None
    reports: Any = None

    @model_validator(mode="before")
    @classmethod
    def _default_target(cls, document: Any) -> Any:
        """With a folder a class, and nothing else said, the class is the target."""
        tiles = document.get("tiles") if isinstance(document, dict) else None
        if isinstance(tiles, dict) and tiles.get("layout") == "folders":
            return {"targets": {"classes": ["class"]}, **document}
        return document

    @model_validator(mode="after")
    def _check_weights_used(self) -> ExtractSettings:
        extract = self.extract
        known = extract.backbones
        models = self.models if isinstance(self.models, dict) else vars(self.models or Strict())
        trained = [str(name).partition(":")[2] for name in models.get("names") or ()]
        for backbone in extract.weights if isinstance(extract.weights, dict) else ():
            if backbone not in known and backbone not in trained:
                raise ValueError(
                    f"[extract] weights: no cut uses the backbone {backbone!r}; the cuts use "
                    f"{', '.join(known)}. Spell both alike.{suggest(backbone, known)}"
                )
        return self

    @property
    def folder(self) -> Path:
        """Where this experiment is written: `out`, or `artifacts/<name>` in the current folder."""
        return self.out or Path.cwd() / "artifacts" / self.name

    def as_json(self) -> dict[str, Any]:
        """Settings as plain values, for the artifacts to carry."""
        return self.model_dump(mode="json", exclude_none=True)


AnySettings = TypeVar("AnySettings", bound=ExtractSettings)


def read_settings(path: Path, model: type[AnySettings]) -> AnySettings:
    """Read and check a settings file.

    Parameters
    ----------
    path : the TOML file; paths inside it are relative to its folder.
    model : `ExtractSettings` of the calling package.

    Returns
    -------
    The settings, with every path absolute.

    Raises
    ------
    SettingsError : not there, not TOML, or keys or values that cannot be used, one a line.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return model.model_validate(document, context=path.resolve().parent)
    except FileNotFoundError:
        problems = ["no such file. Name one with --config (CONFIG= for make)."]
    except OSError as error:
        problems = [f"cannot be read: {error.strerror}. Name a file with --config."]
    except UnicodeDecodeError as error:
        problems = [f"cannot be read as text: {error}. Save it as UTF-8."]
    except tomllib.TOMLDecodeError as error:
        problems = [
            f"not TOML: {error}. Mend that line: text stands in quotes, and in paths / takes the "
            "place of \\."
        ]
    except ValidationError as error:
        problems = [describe_problem(problem, model) for problem in error.errors()]
    except (ValueError, RecursionError) as error:
        problems = [f"cannot be read: {error}. Shorten its numbers, and nest its lists less."]
    raise SettingsError("\n".join(f"settings {path}: {problem}" for problem in problems))
