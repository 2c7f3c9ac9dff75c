"""The settings file: the sections every room shares, and [extract]; read, checked, and reported on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from extract.config.cuts import PIXELS, Cut, CutField
from extract.config.sections import Strict, check_once, describe_problem
from extract.config.suggestions import suggest
from extract.errors import SettingsError

Byte = Annotated[int, Field(ge=0, le=255)]

_RANDOM = re.compile(r"^random:\d+$")


class GridSection(Strict):
    """Places from the id: x = ox + size·(id // rows) + size/2, y = oy − size·(id mod rows) − size/2."""

    rows: int = Field(gt=0)
    size_m: float = Field(gt=0)
    origin: tuple[float, float]


class TilesSection(Strict):
    """[tiles]: the table, the pictures, and what its columns mean.

    With `layout = "folders"` there is no table: every picture below `images` is a tile, and its columns are `id` (its
    path), `class` (the first folder on it), `folder` (all folders on it) and `file`.
    """

    layout: Literal["table", "folders"] = "table"
    table: Path | None = None
    images: Path
    path: str = "{id}.png"
    id: str = "id"
    area: str = ""
    x: str | None = None
    y: str | None = None
    grid: GridSection | None = None
    size_m: float | None = Field(default=None, gt=0)
    crs: str | None = Field(default=None, min_length=1)  # of x and y, as "EPSG:27700"
    groups: list[str] = Field(default=[])
    scale: tuple[float, float] | None = None
    nodata: float | None = None
    background: tuple[Byte, Byte, Byte] | None = None
    follow_links: bool = False
    max_pixels: int = Field(default=100_000_000, gt=0)
    strict: bool = False

    @model_validator(mode="before")
    @classmethod
    def _folders(cls, section: Any) -> Any:
        if not isinstance(section, dict):
            return section
        if section.get("layout", "table") == "table":
            missing = [key for key in ("table", "area") if key not in section]
            if missing:
                raise ValueError(
                    f'{missing[0]}: missing; the key has to be set, unless layout = "folders" (a folder a class)'
                )
        if section.get("layout") != "folders":
            return section
        said = [
            key
            for key, own in (("table", None), ("path", "{id}"), ("id", "id"))
            if section.get(key, own) != own
        ]
        if said:
            raise ValueError(
                f'{said[0]}: layout = "folders" lists the pictures themselves; remove the key, or the layout'
            )
        return {"area": "id", **section, "path": "{id}"}

    @model_validator(mode="after")
    def _one_place(self) -> TilesSection:
        if (self.x is None) != (self.y is None):
            raise ValueError("x and y go together: name both columns, or neither")
        if self.x is not None and self.grid is not None:
            raise ValueError("either x and y or grid says where a tile lies, not both: remove one")
        return self

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
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

    @field_validator("groups")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        return check_once(value)

    @field_validator("scale")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(
                f"expected [low, high] with low < high, got {list(value)}: low becomes 0, high becomes 255"
            )
        return value

    @property
    def look(self) -> dict[str, Any]:
        """What is said of how pictures become colours: embeddings made with other values are others."""
        return {
            "scale": self.scale and list(self.scale),
            "nodata": self.nodata,
            "background": self.background and list(self.background),
        }

    @property
    def source(self) -> Path:
        """What lists the tiles: the table, or with `layout = "folders"` the images."""
        return self.images if self.table is None else self.table


class TargetsSection(Strict):
    """[targets]: the columns to predict, which of them are classes, and the best reachable R² where it is known.

    `made` names targets that are made of columns, written as in [tiles] path: `supergroup = "{SOAC11CD:.1}"` is the first
    character of SOAC11CD.
    """

    columns: list[str] = Field(default=[])
    classes: list[str] = Field(default=[])
    made: dict[str, str] = Field(default={})
    ceiling: Path | None = None

    @field_validator("columns", "classes")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        return check_once(value)

    @property
    def names(self) -> list[str]:
        """Every target once: `columns`, then what only `classes` and `made` name."""
        return list(dict.fromkeys([*self.columns, *self.classes, *self.made]))


class ExtractSection(Strict):
    """[extract]: which networks, cut where, with which weights and numbers."""

    cuts: list[CutField] = Field(min_length=1)
    weights: str | dict[str, str] = "imagenet"
    weights_sha256: dict[str, str] = Field(
        default={}
    )  # backbone → hash that features state of theirs; other weights are refused
    size: int = Field(default=224, ge=32, le=4096)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    runtime: Literal["auto", "keras", "ncnn", "openvino"] = "auto"
    batch: int = Field(default=32, ge=1, le=4096)
    dtype: Literal["float16", "float32"] = "float16"
    shard: int = Field(default=1024, ge=1)
    engine: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    workers: int | None = Field(default=None, ge=1, le=4096)

    @field_validator("cuts")
    @classmethod
    def _cuts(cls, value: list[Cut]) -> list[Cut]:
        return check_once(value)

    @model_validator(mode="after")
    def _scheduler(self) -> ExtractSection:
        if self.scheduler is not None and self.engine != "dask":
            raise ValueError(
                f'scheduler {self.scheduler!r} belongs to engine = "dask", got engine = {self.engine!r}: '
                "set that engine, or remove the scheduler"
            )
        if self.scheduler is not None and self.workers is not None:
            raise ValueError(
                "either scheduler or workers, not both: the cluster of a scheduler has the workers that it has"
            )
        return self

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        for one in value.values() if isinstance(value, dict) else [value]:
            is_drawn = isinstance(one, str) and bool(_RANDOM.match(one))
            is_file = (
                isinstance(value, dict) and isinstance(one, str) and not one.startswith("random:")
            )
            if one != "imagenet" and not is_drawn and not is_file:
                raise ValueError(
                    "expected 'imagenet', 'random:<seed>' or a table with one entry a backbone, as "
                    f'{{ vgg16 = "vgg16.h5" }}, got {one!r}'
                )
        return value

    @property
    def backbones(self) -> list[str]:
        """Names of the backbones that the cuts need, in the order of their first cut."""
        return list(dict.fromkeys(cut.backbone for cut in self.cuts))

    def cuts_of(self, backbone: str) -> list[Cut]:
        """Cuts of one backbone, in the order of the settings."""
        return [cut for cut in self.cuts if cut.backbone == backbone]

    def weights_of(self, backbone: str) -> str:
        """Return what `backbone` is loaded from: `imagenet`, `random:<seed>` or the absolute path of a file; `pixels` by itself."""
        if backbone == PIXELS:
            return PIXELS
        return (
            self.weights
            if isinstance(self.weights, str)
            else self.weights.get(backbone, "imagenet")
        )


class ExtractSettings(Strict):
    """The whole file as extract reads it; [models] and [reports] are left to the rooms that own them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    out: Path | None = None
    tiles: TilesSection
    targets: TargetsSection = TargetsSection()
    extract: ExtractSection
    models: Any = None
    reports: Any = None

    @model_validator(mode="before")
    @classmethod
    def _class_folders(cls, document: Any) -> Any:
        """With a folder a class, and nothing else said, the class is the target."""
        tiles = document.get("tiles") if isinstance(document, dict) else None
        if isinstance(tiles, dict) and tiles.get("layout") == "folders":
            return {"targets": {"classes": ["class"]}, **document}
        return document

    @model_validator(mode="after")
    def _weights_used(self) -> ExtractSettings:
        extract = self.extract
        names = (
            self.models.get("names")
            if isinstance(self.models, dict)
            else getattr(self.models, "names", None)
        )
        trained = [
            str(name).partition(":")[2] for name in names or ()
        ]  # a model's name may add a network
        for backbone in extract.weights if isinstance(extract.weights, dict) else ():
            if backbone not in [*extract.backbones, *trained]:
                raise ValueError(
                    f"[extract] weights: no cut uses the backbone {backbone!r}; the cuts use "
                    f"{', '.join(extract.backbones)}.{suggest(backbone, extract.backbones)}"
                )
        return self

    @property
    def folder(self) -> Path:
        """Where everything of this experiment is written: `out`, or `artifacts/<name>` where the command runs."""
        return self.out if self.out is not None else Path.cwd() / "artifacts" / self.name

    def as_json(self) -> dict[str, Any]:
        """Settings as plain values, for the artifacts to carry."""
        return self.model_dump(mode="json", exclude_none=True)


AnySettings = TypeVar("AnySettings", bound=ExtractSettings)


def read_settings(path: Path, model: type[AnySettings]) -> AnySettings:
    """Read and check a settings file.

    Parameters
    ----------
    path : the TOML file; paths inside it are relative to its folder.
    model : `ExtractSettings` of the calling room.

    Returns
    -------
    The settings, with every path absolute.

    Raises
    ------
    SettingsError : not there, not TOML, or a key or value that cannot be used (all of them, one a line).
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SettingsError(
            f"settings {path}: no such file. Name one with --config (CONFIG= for make)."
        ) from None
    except (IsADirectoryError, PermissionError) as error:
        raise SettingsError(
            f"settings {path}: cannot be read: {error.strerror}. Name a file with --config."
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"settings {path}: cannot be read as text: {error}. Save it as UTF-8."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(
            f"settings {path}: not TOML: {error}. Mend that line: text stands in quotes, and "
            "in paths / takes the place of \\."
        ) from None
    try:
        return model.model_validate(_with_absolute_paths(document, path.resolve().parent))
    except ValidationError as error:
        lines = [
            f"settings {path}: {describe_problem(problem, model)}" for problem in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from None


def _with_absolute_paths(document: dict[str, Any], base: Path) -> dict[str, Any]:
    """Join every path of the file to the file's folder."""

    def join(table: Any, *keys: str) -> None:
        for key in keys:
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = str(base / Path(table[key]).expanduser())

    join(document, "out")
    join(document.get("tiles"), "table", "images")
    join(document.get("targets"), "ceiling")
    join(document.get("reports"), "boundaries")
    extract = document.get("extract")
    weights = extract.get("weights") if isinstance(extract, dict) else None
    if isinstance(weights, dict):
        join(
            weights,
            *(
                k
                for k, v in weights.items()
                if v != "imagenet" and not str(v).startswith("random:")
            ),
        )
    return document
