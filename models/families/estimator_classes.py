"""Classes that settings name: found, checked, and built with their parameters."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, Literal

from extract.config.suggestions import suggest

# Packages whose classes may be named without `[models] trust`: importing a class runs its code.
TRUSTED_PACKAGES = ("sklearn", "xgboost", "lightgbm", "catboost", "cuml", "tabicl", "tabpfn")
_DISTRIBUTIONS = {"sklearn": "scikit-learn", "cuml": "cuml-cu12"}
# Parameters that keep a package from printing, and from writing files where the command runs.
_QUIET: dict[str, dict[str, Any]] = {
    "lightgbm": {"verbosity": -1},
    "catboost": {"verbose": False, "allow_writing_files": False},
}
_NO_THREADS = ("sklearn.linear_model.LogisticRegression",)  # its n_jobs has no effect, and warns
_LIKE = 0.85  # of a misspelt name to a known one, where a class takes any name


def package_of(name: str) -> str:
    """Return the package of a class: `sklearn` of `sklearn.svm.SVR`."""
    return name.partition(".")[0]


def check_trusted(name: str, trust: Iterable[str]) -> None:
    """Check that a class may be imported.

    Parameters
    ----------
    name : dotted, as `sklearn.svm.SVR`.
    trust : packages that the settings trust besides `TRUSTED_PACKAGES`.

    Raises
    ------
    ValueError : another form, or a package that nobody trusts.
    """
    parts = name.split(".")
    is_dotted = len(parts) > 1 and all(part.isidentifier() for part in parts)
    if not is_dotted:
        raise ValueError(f"expected a class with its module, as 'sklearn.svm.SVR', got {name!r}")
    package = package_of(name)
    trusted = [*TRUSTED_PACKAGES, *trust]
    if package not in trusted:
        listed = ", ".join(trusted)
        raise ValueError(
            f"{name!r}: importing a class runs its code, and {package!r} is none of "
            f'{listed}. Set trust = ["{package}"] in [models] if you trust it.'
            f"{suggest(package, trusted)}"
        )


@lru_cache
def find_class(name: str) -> type[Any]:
    """Import a class.

    Raises
    ------
    ValueError : not installed, no such class, or not an estimator.
    """
    module_name, _, class_name = name.rpartition(".")
    package = package_of(name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise ValueError(f"{name!r}: cannot be imported ({error})") from None
        distribution = _DISTRIBUTIONS.get(package, package)
        raise ValueError(
            f"{name!r}: {package} is not installed here. Run `pip install {distribution}`."
        ) from None
    except Exception as error:  # code of others can fail in any way
        what = type(error).__name__
        raise ValueError(f"{name!r}: cannot be imported ({what}: {error})") from error
    kind = getattr(module, class_name, None)
    if kind is None:
        near = difflib.get_close_matches(class_name, dir(module), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r}: {module_name} has no {class_name!r}.{hint}")
    is_estimator = hasattr(kind, "fit") and hasattr(kind, "predict")
    if not inspect.isclass(kind) or not is_estimator:
        raise ValueError(
            f"{name!r}: not an estimator; expected a class with the methods fit and predict"
        )
    return kind


def list_parameters(kind: type[Any]) -> tuple[list[str], bool]:
    """Return the names that a class's constructor takes, and whether it takes any other.

    Those of its bases count where it hands names on (`**kwargs`).
    """
    names: dict[str, None] = {}
    *bases, _ = inspect.getmro(kind)
    for base in bases:
        constructor = vars(base).get("__init__")
        if constructor is None:
            continue
        signature = inspect.signature(constructor)
        parameters = list(signature.parameters.values())
        hands_on = False
        for parameter in parameters[1:]:
            if parameter.kind == parameter.VAR_KEYWORD:
                hands_on = True
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                names[parameter.name] = None
        if not hands_on:
            return list(names), False
    return list(names), bool(names)


def check_names(name: str, given: Iterable[str], key: str) -> None:
    """Check that a class takes parameters of these names.

    Where a class takes any name, what is nearly a known one is refused.

    Parameters
    ----------
    key : of the settings that they stand in.

    Raises
    ------
    ValueError : an unknown name; the text gives the nearest.
    """
    known, takes_any = list_parameters(find_class(name))
    for parameter in given:
        if parameter in known:
            continue
        similar = difflib.get_close_matches(parameter, known, n=1, cutoff=_LIKE)
        if similar or not takes_any:
            near = suggest(parameter, known)
            raise ValueError(f"{key}: {name} has no parameter {parameter!r}.{near}")


def build_estimator(name: str, params: Mapping[str, Any], *, seed: int, threads: int) -> Any:
    """Build an unfitted estimator.

    Parameters
    ----------
    params : of its constructor.
    seed, threads : its `random_state` and `n_jobs`, where it has them and `params` has not.

    Raises
    ------
    ValueError : parameters that the class refuses.
    """
    kind = find_class(name)
    known, _ = list_parameters(kind)
    package = package_of(name)
    given = dict(_QUIET.get(package, {}))
    if "random_state" in known:
        given["random_state"] = seed
    if "n_jobs" in known and name not in _NO_THREADS:
        given["n_jobs"] = threads
    given.update(params)
    try:
        return kind(**given)
    except Exception as error:
        what = type(error).__name__
        raise ValueError(f"{name}: {what}: {error}") from error


def check_class(
    name: str,
    task: Literal["number", "class"],
    params: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    is_weighted: bool,
) -> None:
    """Check that a class is installed, and takes what it is asked for.

    Parameters
    ----------
    task : what it is to predict. params, grid : of its constructor.
    is_weighted : whether rows have weights.

    Raises
    ------
    ValueError : not installed, not an estimator, one for the other task, an unknown parameter, or
        weights that `fit` does not take.
    """
    check_names(name, params, "params")
    check_names(name, grid, "grid")
    first = {key: values[0] for key, values in grid.items()}
    estimator = build_estimator(name, {**params, **first}, seed=0, threads=1)
    kind = _find_kind(estimator)
    if task == "number" and kind == "classifier":
        raise ValueError(
            f"estimator: {name} is a classifier, and estimator predicts numbers; write it as "
            "classes"
        )
    if task == "class" and kind == "regressor":
        raise ValueError(
            f"classes: {name} is a regressor, and classes predicts classes; write it as estimator"
        )
    if is_weighted and not _takes_weights(find_class(name)):
        raise ValueError(
            f"{name}: its fit takes no sample_weight, and [models] weights is 'area'. Set "
            "weights = 'tile', feed it with areas ('@area'), or take another estimator."
        )


def _find_kind(estimator: Any) -> str | None:
    """Return `classifier`, `regressor`, or None where an estimator does not say."""
    from sklearn.utils import get_tags

    if not hasattr(estimator, "__sklearn_tags__"):
        return getattr(estimator, "_estimator_type", None)
    return get_tags(estimator).estimator_type


def _takes_weights(kind: type[Any]) -> bool:
    """Return whether a class's `fit` takes `sample_weight`."""
    parameters = inspect.signature(kind.fit).parameters
    takes_any = any(one.kind == one.VAR_KEYWORD for one in parameters.values())
    return takes_any or "sample_weight" in parameters


def read_versions(names: Iterable[str]) -> dict[str, str]:
    """Return the version of each class's package, by its name on the package index.

    Major and minor alone, as a patch should change no number. Of a class that belongs to no
    installed package it is a hash of the file that defines it.
    """
    versions = {}
    for name in names:
        package = package_of(name)
        distribution = _find_distribution(package)
        if distribution is not None:
            numbers = version(distribution).split(".")
            versions[distribution] = ".".join(numbers[:2])
            continue
        source = inspect.getsourcefile(find_class(name))
        if source is not None:
            content = Path(source).read_bytes()
            digest = hashlib.sha256(content)
            versions[package] = digest.hexdigest()[:12]
    return versions


@lru_cache
def _find_distribution(package: str) -> str | None:
    """Return the installed package that a module belongs to; None where there is none."""
    name = _DISTRIBUTIONS.get(package, package)
    try:
        version(name)
    except PackageNotFoundError:
        distributions = packages_distributions().get(package)
        return distributions[0] if distributions else None
    return name
