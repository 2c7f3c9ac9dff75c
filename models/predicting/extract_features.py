"""Make the features of a place as those were made that its models were fitted on.

It is `python -m extract run` that makes them, in a process of its own, by a settings file beside
them (`features.toml`): the same command by hand goes on where it stopped, and a killed prediction
does as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomli_w

import extract
from extract.config.cuts import JOINED, PIXELS, Cut, parse_cut
from extract.console import STAGE
from extract.errors import PlaceError, PlaceFeaturesError
from extract.files.atomic import write_atomically
from extract.store.schema import read_attributes
from models.data.place_settings import PlaceSettings
from models.predicting.place import check_place, list_features
from models.settings import FitSettings
from models.store.kept_models import KeptModel, list_kept
from models.store.model_folder import check_sealed

_OF_THE_MACHINE = ("batch", "shard", "runtime", "engine", "scheduler", "workers")
_IMPORTED = "imported"


def make_missing(
    settings: FitSettings,
    place: PlaceSettings,
    models: Sequence[KeptModel],
    *,
    say: Callable[[str], None] | None = None,
) -> None:
    """Make the features that models need of a place, where they are not there or not whole.

    Parameters
    ----------
    settings : of the experiment: its other kept models may be asked next, and the maps that they
        are fed are stored too; other maps are not.
    models : kept models that will be asked.
    say : called with the command before it runs.

    Raises
    ------
    PlaceError : the models or the place cannot be used; features that came from elsewhere.
        RunFileError : a model was tampered with.
    PlaceFeaturesError : the extraction failed.
    """
    lacking = []
    for one in models:
        check_place(place, one)
        if not all(map(_are_whole, list_features(place, one))):
            lacking.append(one)
    if not lacking:
        return
    for one in lacking:
        check_sealed(one.path, one.facts)
    needed: set[str] = set()
    for target in settings.targets.names:
        for one in list_kept(settings.folder, target):
            needed.update(map(str, one.parts))
    document = describe_features(place, lacking, needed)
    path = place.folder / "features.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as partial:
        partial.write_text(tomli_w.dumps(document), encoding="utf-8")
    if say:
        say(
            f"{place.name} has no features, or not all: they are made as the model's were, by "
            "`python -m extract run --config "
            f"{path}`. [extract] of the place may say where weights lie, and "
            f"{', '.join(_OF_THE_MACHINE)}."
        )
    _run(path)


def _are_whole(path: Path) -> bool:
    """Return whether features and all of their shards are there."""
    if not path.is_file():
        return False
    shards = json.loads(read_attributes(path).get("shards", "[]"))
    folder = path.with_suffix("")
    return all((folder / Path(name).name).is_file() for name in shards)


def describe_features(
    place: PlaceSettings, models: Sequence[KeptModel], needed: set[str]
) -> dict[str, Any]:
    """Return the settings file that makes the features of a place as those of some models were
    made.

    Parameters
    ----------
    needed : cuts that are stored as they were; of others that are maps the mean is, as the hash of
        weights counts every layer.

    Raises
    ------
    PlaceError : features that were imported; a place whose pictures are to be read otherwise than
        those of the model.
    """
    tiles = place.tiles.model_dump(mode="json", exclude_none=True)
    of_the_machine = place.extract.model_fields_set.intersection(_OF_THE_MACHINE)
    section = place.extract.model_dump(mode="json", exclude_none=True, include=of_the_machine)
    section |= {"cuts": [], "weights": {}, "weights_sha256": {}}
    by_backbone = {name_backbone(one): one for one in models}
    for backbone, one in by_backbone.items():
        made = one.facts["made"]
        look = one.facts["look"]
        if backbone == JOINED:
            parts = ", ".join(f'"{part}"' for part in one.parts)
            raise PlaceError(
                f"{one.cell.cut}: features of several cuts are not made here. Make those of this "
                "place by `python -m extract run`, with the [extract] section of the experiment "
                f"and cuts = [{parts}], and ask again."
            )
        if made.get("weights") == _IMPORTED:
            raise PlaceError(
                f"{one.cell.cut}: these features came from elsewhere. Make those of this place in "
                "the same way, and "
                "bring them in: python -m extract import --config NEW.toml --ids … --vectors … "
                f"--as {one.cell.cut} "
                f'(with cuts = ["{one.cell.cut}"] in [extract] of NEW.toml).'
            )
        if backbone != PIXELS and not made.get("cuts"):
            raise PlaceError(
                f"{one.path}: does not say how the features of {one.cell.cut} were made, so that "
                "none can be made "
                "of this place. Make them yourself, or the experiment's anew (`make features "
                "FRESH=1`)."
            )
        tiles |= _agree(place, look, one)
        section |= {"size": look.get("size", 224), "dtype": made.get("dtype", "float16")}
        section["cuts"] += _choose_cuts(backbone, made, needed)
        if backbone != PIXELS:
            section["precision"] = made["precision"]
            section["weights"][backbone] = _find_weights(place, backbone, made)
            section["weights_sha256"][backbone] = one.facts["training"]["weights_sha256"]
    return {"name": place.name, "out": str(place.folder), "tiles": tiles, "extract": section}


def name_backbone(one: KeptModel) -> str:
    """Name what makes a model's features; a model that is fed no cut needs what pictures tell
    without a network.
    """
    return one.cell.cut.backbone if isinstance(one.cell.cut, Cut) else PIXELS


def _choose_cuts(backbone: str, made: dict[str, Any], needed: set[str]) -> list[str]:
    cuts = [parse_cut(text) for text in made.get("cuts", [f"{PIXELS}/32:avg"])]
    if backbone == PIXELS:
        return [str(cut) for cut in cuts if str(cut) in needed] or [str(cuts[0])]
    chosen = []
    for cut in cuts:
        is_small = cut.pooling in ("avg", "max")
        if not is_small and str(cut) not in needed:
            cut = cut._replace(pooling="avg")
        chosen.append(str(cut))
    return list(dict.fromkeys(chosen))


def _agree(place: PlaceSettings, look: dict[str, Any], one: KeptModel) -> dict[str, Any]:
    """Return how pictures become colours, as the model says; raises PlaceError where the place says
    otherwise.
    """
    for name, value in place.tiles.look.items():
        if value is not None and value != look.get(name):
            raise PlaceError(
                f"[tiles] {name} of {place.name!r}: got {value!r}, and model {one.cell.model!r} "
                "was fitted on "
                f"pictures with {name} = {look.get(name)!r}. Remove the key, and bring the "
                "pictures to that."
            )
    agreed = {name: look.get(name) for name in place.tiles.look}
    return {name: value for name, value in agreed.items() if value is not None}


def _find_weights(place: PlaceSettings, backbone: str, made: dict[str, Any]) -> str:
    """Return where the weights lie: where the place says, else where they lay; their hash is what
    decides.
    """
    said = place.extract.weights
    if isinstance(said, dict):
        return said.get(backbone, str(made["weights"]))
    if "weights" in place.extract.model_fields_set:
        return said
    return str(made["weights"])


def _run(path: Path) -> None:
    """Extract by a settings file in another process, which shows its progress; Ctrl-C reaches both,
    and this one waits.
    """
    root = str(Path(extract.__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    inherited = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    environment = {**inherited, "PYTHONPATH": paths, STAGE: "1"}
    command = [sys.executable, "-m", "extract", "run", "--config", str(path)]
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise PlaceFeaturesError(
            f"{path}: the features of this place could not be made (exit code {code}); the "
            "extraction said why. "
            "The same command goes on from there.",
            code,
        )
