"""The sections [models.estimators.<name>]: classes of other packages as models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from extract.config.sections import Strict
from models.families.estimator_classes import check_class, read_versions
from models.families.estimators import Estimator
from models.families.training_rows import Task


class EstimatorSection(Strict):
    """[models.estimators.<name>]: a class with `fit` and `predict`, and its parameters.

    `estimator` predicts numbers and `classes` predicts targets that are classes; `params` are of
    their constructors, and of `grid` the best values are chosen inside the training folds.
    """

    estimator: str | None = None
    classes: str | None = None
    params: dict[str, Any] = Field(default={})
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default={})
    scale: bool = False

    @model_validator(mode="after")
    def _check_together(self) -> EstimatorSection:
        if not self.class_names:
            raise ValueError(
                "expected a class as estimator, as 'sklearn.svm.SVR', or as classes, for targets "
                "that are classes; got neither"
            )
        twice = [name for name in self.params if name in self.grid]
        if twice:
            raise ValueError(f"{twice[0]!r} stands in params and in grid; leave one out")
        return self

    @property
    def class_names(self) -> dict[Task, str]:
        """What it predicts, and the class for it."""
        named: dict[Task, str | None] = {"number": self.estimator, "class": self.classes}
        return {task: name for task, name in named.items() if name}

    def read_versions(self) -> dict[str, str]:
        """Return the versions of the packages of its classes."""
        return read_versions(self.class_names.values())

    def build(self, *, seed: int, task: Task) -> Estimator:
        """Return an unfitted model."""
        return Estimator(
            self.estimator or "",
            self.classes or "",
            params=self.params,
            grid=self.grid,
            scale=self.scale,
            seed=seed,
            task=task,
        )

    def check_installed(self, *, is_weighted: bool) -> None:
        """Import the classes, and check that they take what they are asked for.

        Parameters
        ----------
        is_weighted : whether rows have weights.

        Raises
        ------
        ValueError : as `check_class`.
        """
        for task, name in self.class_names.items():
            check_class(name, task, self.params, self.grid, is_weighted=is_weighted)
