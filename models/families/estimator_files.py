"""Estimators of the settings in files that run no code when they are read.

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

from extract.config.arrays import Floats, Matrix
from models.families.estimator_classes import find_class, package_of
from models.families.estimators import Estimator, FittedTarget
from models.families.family import Family
from models.families.pca import inner_family

REFIT = "refit"  # the form of what is fitted again
_TEXT = "estimator.json"
_SCALES = "scales.npz"


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


def write_estimators(folder: Path, model: Estimator) -> None:
    """Write fitted estimators into the folder of a kept model."""
    name = model.class_name
    form = find_form(model)
    text = {
        "class": name,
        "form": form,
        "params": model.get_params(),
        "chosen": model.chosen_,
        "n_outputs": model.n_outputs_,
        "codes": [one.codes.tolist() for one in model.fitted_],
        "constant": [one.estimator is None for one in model.fitted_],
    }
    (folder / _TEXT).write_text(json.dumps(text))
    if form == REFIT:
        return
    arrays = {}
    for number, one in enumerate(model.fitted_):
        arrays[f"mean_{number}"] = one.mean
        arrays[f"scale_{number}"] = one.scale
        if one.estimator is not None:
            path = folder / f"estimator-{number}.{_FORMS[form].suffix}"
            _FORMS[form].write(one.estimator, path)
    np.savez(folder / _SCALES, allow_pickle=False, **arrays)


def find_form(model: Estimator) -> str:
    """Return how fitted estimators are kept: a package of `_FORMS`, or `REFIT`."""
    package = package_of(model.class_name)
    if package not in _FORMS:
        return REFIT
    for one in model.fitted_:
        kind = type(one.estimator)
        if one.estimator is not None and package_of(kind.__module__) != package:
            return REFIT  # calibrated, or of a package that stands in for it
    return package


def read_estimators(folder: Path, model: Estimator) -> Estimator:
    """Read what `write_estimators` wrote; without `fitted_` where it has to be fitted again.

    Parameters
    ----------
    model : unfitted, of the reader's settings: no other class is imported.

    Raises
    ------
    ValueError : another class than the reader names, or a file with types that are not trusted.
    """
    text = json.loads((folder / _TEXT).read_text())
    name = model.class_name
    if text["class"] != name:
        raise ValueError(
            f"kept as {text['class']!r}, and the settings name {name!r}; write the class that it "
            "was kept with"
        )
    known = model.get_params()
    asked = {key: value for key, value in text["params"].items() if key in known}
    model.set_params(**{**asked, "estimator": model.estimator, "classes": model.classes})
    model.chosen_ = text["chosen"]
    if text["form"] == REFIT:
        return model
    form = _FORMS[package_of(name)]
    kind = find_class(name)
    model.n_outputs_ = int(text["n_outputs"])
    model.fitted_ = []
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
            model.fitted_.append(one)
    return model


def has_safe_form(model: Family) -> bool:
    """Return whether files can hold a fitted model, so that it need not be fitted again."""
    inner = inner_family(model)
    return not isinstance(inner, Estimator) or find_form(inner) != REFIT


def needs_refit(model: Family) -> bool:
    """Return whether a model that was read was kept by its parameters alone."""
    inner = inner_family(model)
    return isinstance(inner, Estimator) and not hasattr(inner, "fitted_")


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
