"""Which network stood before a cut, for the models that go on with it; nothing is built here."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path

from extract.config.cuts import PIXELS, CellCut, Cut, parse_cut
from extract.networks.registry import Origin
from extract.store.embeddings import ShardAttributes, read_attributes
from models.data.model_names import FINETUNE, ModelSpec
from models.settings import FitSettings
from models.store.runs import hash_file


def find_origin(settings: FitSettings, spec: ModelSpec, cut: CellCut) -> Origin | None:
    """Return the network that a model goes on with from a cut: None where it does not, or where no
    network made the cut.

    A tail begins with the weights that its embeddings were made with, a whole network with those
    that the embeddings of the same backbone were, if there are some; else both with those of the
    settings.
    """
    if not isinstance(cut, Cut):
        return None
    if spec.family == FINETUNE:
        weights, _ = _read_made(settings, spec.backbone)
        return Origin(backbone=spec.backbone, layer="", size=int(cut.layer), weights=weights)
    if spec.family != "tail":
        return None
    weights, made = _read_made(settings, cut.backbone)
    if cut.backbone == PIXELS or made is None or made["weights"] == "imported":
        return None
    recipe = json.loads(made["recipe"])
    return Origin(
        backbone=cut.backbone,
        layer=cut.layer,
        size=int(recipe["size"]),
        weights=weights,
        cuts=tuple(parse_cut(one).layer for one in recipe["cuts"]),
        sha256=str(made["weights_sha256"]),
    )


def _read_made(settings: FitSettings, backbone: str) -> tuple[str, ShardAttributes | None]:
    """Return the source of a backbone's weights, and the attributes of its features if there are
    some.

    Features say `random:<seed>` where ImageNet's weights could not be had; a file is where these
    settings have it.
    """
    path = settings.folder / "features" / f"{backbone}.h5"
    asked = settings.extract.weights_of(backbone)
    if not path.is_file():
        return asked, None
    made = read_attributes(path)
    return (made["weights"] if str(made["weights"]).startswith("random:") else asked), made


def hash_origin(origin: Origin) -> str:
    """Return a hash of what a model's numbers depend on of the network that it goes on with.

    Raises
    ------
    ValueError : the file of the weights is not there.
    """
    source = origin.weights
    path = Path(origin.weights)
    if path.is_absolute():
        if not path.is_file():
            raise ValueError(
                f"weights {path}: no such file, and a model goes on with the network. Mend "
                "[extract] weights."
            )
        source = _hash(path, path.stat().st_mtime_ns)
    return hashlib.sha256(
        f"{origin.backbone} {origin.layer} {origin.size} {source}".encode()
    ).hexdigest()


@lru_cache(maxsize=8)
def _hash(path: Path, changed: int) -> str:  # noqa: ARG001
    return hash_file(path)
