"""Read kept estimators of the settings, and tell which have to be fitted again."""

from __future__ import annotations

import json
from pathlib import Path

from models.families.estimator_forms import REFIT, TEXT, find_form, read_fitted
from models.families.estimators import Estimator
from models.families.family import Family
from models.families.pca import inner_family


def read_estimators(folder: Path, model: Estimator) -> Estimator:
    """Read what `Estimator.save` wrote; without `fitted_` where it has to be fitted again.

    Parameters
    ----------
    model : unfitted, of the reader's settings: no other class is imported.

    Raises
    ------
    ValueError : another class than the reader names, or a file with types that are not trusted.
    """
    text = json.loads((folder / TEXT).read_text())
    name = model.class_name
    if text["class"] != name:
        raise ValueError(
            f"kept as {text['class']!r}, and the settings name {name!r}; write the class that it "
            "was kept with"
        )
    known = model.get_params()
    asked = {key: value for key, value in text["params"].items() if key in known}
    asked["estimator"] = model.estimator
    asked["classes"] = model.classes
    model.set_params(**asked)
    model.chosen_ = text["chosen"]
    if text["form"] == REFIT:
        return model
    model.n_outputs_ = int(text["n_outputs"])
    model.fitted_ = read_fitted(folder, name, text)
    return model


def has_safe_form(model: Family) -> bool:
    """Return whether files can hold a fitted model, so that it need not be fitted again."""
    inner = inner_family(model)
    if not isinstance(inner, Estimator):
        return True
    form = find_form(inner.class_name, inner.fitted_)
    return form != REFIT


def needs_refit(model: Family) -> bool:
    """Return whether a model that was read was kept by its parameters alone."""
    inner = inner_family(model)
    return isinstance(inner, Estimator) and not hasattr(inner, "fitted_")
