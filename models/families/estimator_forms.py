"""Fitted estimators in files that run no code when they are read.

scikit-learn's are kept by skops, XGBoost's and LightGBM's in their own formats. Others have no such
form: their parameters are kept alone, and they are fitted again when they are asked for.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from extract.config.arrays import Float32s, Floats, Ints, Matrix
from models.families.estimator_classes import find_class, package_of

REFIT = "refit"  # the form of what is fitted again
TEXT = "estimator.json"
_SCALES = "scales.npz"


class FittedTarget(NamedTuple):
    """The estimator of one target.

    Attributes
    ----------
    estimator : fitted; None where all training rows have one class.
    codes : of the classes that training rows had, in the order of the estimator's; empty of
        numbers.
    mean, scale : (n_features,), what features are standardised by; empty where they are not.
    """

    estimator: Any
    codes: Ints
    mean: Float32s
    scale: Float32s


class Form(NamedTuple):
    """How estimators of a package are written, and read."""

    suffix: str
    write: Callable[[Any, Path], None]
    read: Callable[[type[Any], Path], Any]


class LightgbmModel:
    """A LightGBM model from its text, with `predict`, and `predict_proba` of classes."""

    def __init__(self, path: Path) -> None:
        import lightgbm

        self._booster = lightgbm.Booster(model_file=path)

    def predict(self, X: Matrix) -> Floats:
        """Predict numbers: (n_rows,)."""
        return np.asarray(self._booster.predict(X))

    def predict_proba(self, X: Matrix) -> Floats:
        """Predict the probability of each class: (n_rows, n_classes)."""
        shares = np.asarray(self._booster.predict(X))
        return shares if shares.ndim == 2 else np.column_stack([1 - shares, shares])


def write_fitted(
    folder: Path, name: str, fitted: list[FittedTarget], facts: dict[str, Any]
) -> None:
    """Write the fitted estimators of a class, and what else is known of them."""
    form = find_form(name, fitted)
    text = facts | {
        "class": name,
        "form": form,
        "codes": [one.codes.tolist() for one in fitted],
        "constant": [one.estimator is None for one in fitted],
    }
    (folder / TEXT).write_text(json.dumps(text))
    if form == REFIT:
        return
    arrays = {}
    for number, one in enumerate(fitted):
        arrays[f"mean_{number}"] = one.mean
        arrays[f"scale_{number}"] = one.scale
        if one.estimator is not None:
            path = folder / f"estimator-{number}.{_FORMS[form].suffix}"
            _FORMS[form].write(one.estimator, path)
    np.savez(folder / _SCALES, allow_pickle=False, **arrays)


def find_form(name: str, fitted: list[FittedTarget]) -> str:
    """Return how fitted estimators of a class are kept: a package of `_FORMS`, or `REFIT`."""
    package = package_of(name)
    if package not in _FORMS:
        return REFIT
    for one in fitted:
        kind = type(one.estimator)
        if one.estimator is not None and package_of(kind.__module__) != package:
            return REFIT  # calibrated, or of a package that stands in for it
    return package


def read_fitted(folder: Path, name: str, text: dict[str, Any]) -> list[FittedTarget]:
    """Read what `write_fitted` wrote; `text` is its JSON, and `name` the class that is trusted."""
    form = _FORMS[package_of(name)]
    kind = find_class(name)
    fitted = []
    with np.load(folder / _SCALES, allow_pickle=False) as arrays:
        for number, codes in enumerate(text["codes"]):
            estimator = None
            if not text["constant"][number]:
                estimator = form.read(kind, folder / f"estimator-{number}.{form.suffix}")
            one = FittedTarget(
                estimator,
                np.array(codes, np.int64),
                arrays[f"mean_{number}"],
                arrays[f"scale_{number}"],
            )
            fitted.append(one)
    return fitted


def _write_skops(estimator: Any, path: Path) -> None:
    import skops.io

    skops.io.dump(estimator, path)


def _read_skops(kind: type[Any], path: Path) -> Any:
    """Read an estimator of scikit-learn; no types but its own classes are trusted."""
    import skops.io

    types = skops.io.get_untrusted_types(file=path)
    strange = [name for name in types if not _is_class_of(name, "sklearn")]
    if strange:
        raise ValueError(
            f"{path.name} holds {', '.join(strange)}, which is never written. Do not trust it."
        )
    from sklearn.calibration import CalibratedClassifierCV

    estimator = skops.io.load(path, trusted=types)
    if type(estimator) not in (kind, CalibratedClassifierCV):
        raise ValueError(f"{path.name} holds a {type(estimator).__name__}. Do not trust it.")
    return estimator


def _is_class_of(name: str, package: str) -> bool:
    """Return whether a dotted name is a class of a package, and no function."""
    module, _, attribute = name.rpartition(".")
    if package_of(module) != package:
        return False
    return inspect.isclass(getattr(importlib.import_module(module), attribute, None))


def _write_xgboost(estimator: Any, path: Path) -> None:
    estimator.save_model(path)


def _read_xgboost(kind: type[Any], path: Path) -> Any:
    estimator = kind()
    estimator.load_model(path)
    return estimator


def _write_lightgbm(estimator: Any, path: Path) -> None:
    estimator.booster_.save_model(path)


def _read_lightgbm(_: type[Any], path: Path) -> Any:
    return LightgbmModel(path)


_FORMS = {
    "sklearn": Form("skops", _write_skops, _read_skops),
    "xgboost": Form("ubj", _write_xgboost, _read_xgboost),
    "lightgbm": Form("txt", _write_lightgbm, _read_lightgbm),
}
