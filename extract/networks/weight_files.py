"""Read the weights of frozen networks from the files that Keras writes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras

from extract.errors import NetworkError

_IN_ZIP = "model.weights.h5"  # what a .keras file holds beside its configuration
_OPTIMIZER = "optimizer"
_MOST_TIMES = 4  # its size, of weights unpacked: Keras packs nothing, and numbers hardly shrink

Arrays = list[h5py.Dataset]


def load_weights(body: keras.Model, path: Path) -> None:
    """Load a weight file by the names of layers; layers that only the file has are ignored.

    The network may stand inside another, as a backbone does in a fine-tuned model.

    Parameters
    ----------
    path : a whole model or its weights, as Keras writes them: `.keras`, `.weights.h5` or `.h5`.

    Raises
    ------
    NetworkError : no such file, none of these, a layer of the model that it does not cover, or two
        that have its name.
    """
    if not path.is_file():
        raise NetworkError(f"weights {path}: no such file. Correct [extract] weights.")
    try:
        with _open_hdf5(path) as file:
            known = _list_arrays(file)
            for layer in body.layers:
                if layer.weights:
                    layer.set_weights(_read_layer(known, layer, path))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise NetworkError(
            f"weights {path}: neither a .keras file nor readable HDF5 ({error}). Fetch it again."
        ) from None


@contextmanager
def _open_hdf5(path: Path) -> Iterator[h5py.File]:
    if not zipfile.is_zipfile(path):
        with h5py.File(path) as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        n_bytes = archive.getinfo(_IN_ZIP).file_size
        if n_bytes > _MOST_TIMES * path.stat().st_size:
            raise NetworkError(
                f"weights {path}: {n_bytes} bytes are packed into it, more than weights can be. "
                "Do not trust it; fetch it again."
            )
        content = archive.read(_IN_ZIP)
    with h5py.File(io.BytesIO(content)) as file:
        yield file


def _list_arrays(file: h5py.File) -> dict[str, list[Arrays]]:
    """Return the arrays of every layer, by its name; layers of two networks may share one.

    Keras 3 keeps the arrays `0`, `1`, … of a layer in a group `vars` that bears its name. The older
    HDF5 lists arrays as `layer/kernel`, those of a network inside another in one group.
    """
    known: dict[str, list[Arrays]] = {}

    def visit(path: str, item: Any) -> None:
        if path.startswith(_OPTIMIZER):
            return
        names = item.attrs.get("weight_names")
        if names is not None:
            for layer, arrays in _part_group(item, names).items():
                known.setdefault(layer, []).append(arrays)
        elif path.endswith("/vars") and len(item) > 0:
            arrays = [item[str(number)] for number in range(len(item))]
            name = str(item.attrs.get("name"))
            known.setdefault(name, []).append(arrays)

    file.visititems(visit)
    return known


def _part_group(group: h5py.Group, names: Any) -> dict[str, Arrays]:
    """Part the arrays of one layer of the older HDF5, which may be a whole network, by layer."""
    own = group.name.rpartition("/")[2]
    parts: dict[str, Arrays] = {}
    whole: Arrays = []
    for name in names:
        text = name.decode() if isinstance(name, bytes) else str(name)
        inner = text.split("/")[-2:-1]
        layer = inner[0] if inner else own
        parts.setdefault(layer, []).append(group[text])
        whole.append(group[text])
    return {**parts, own: whole}


def _read_layer(known: dict[str, list[Arrays]], layer: keras.layers.Layer, path: Path) -> list[Any]:
    found = known.get(layer.name, [])
    if len(found) > 1:
        raise NetworkError(
            f"weights {path}: {len(found)} networks in it have a layer {layer.name!r}. "
            "Save the one that is meant alone."
        )
    arrays = found[0] if found else []
    n_weights = len(layer.weights)
    if len(arrays) != n_weights:
        raise NetworkError(
            f"weights {path}: layer {layer.name!r} is not covered ({len(arrays)} of {n_weights} "
            "arrays), and a cut needs it. Cut lower, or give a file that covers it."
        )
    for array, weight in zip(arrays, layer.weights, strict=True):
        expected = tuple(weight.shape)
        if array.shape != expected:
            raise NetworkError(
                f"weights {path}: layer {layer.name!r} has shape {array.shape}, expected "
                f"{expected}. The file is of another network or input size."
            )
    return [array[()] for array in arrays]
