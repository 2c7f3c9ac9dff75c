"""Logistic regression and support vectors equal scikit-learn's, with C chosen by a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from models.data.classes import spread_classes
from models.data.features import Features
from models.data.fold_assignment import assign_folds
from models.data.folds import build_folds
from models.families.linear.margins import Logistic, SupportVectors

RNG = np.random.default_rng(0)
N = 240
AREA = np.repeat(np.arange(60), 4)
CODE = RNG.integers(0, 3, N)
X = RNG.normal(size=(3, 8))[CODE] + 1.5 * RNG.normal(size=(N, 8))
X = (X * RNG.uniform(0.5, 3, 8)).astype(np.float32)
Y = spread_classes(CODE, 3)
ONES = np.ones(N)
CS = (0.001, 0.03, 1.0)
FOLD = assign_folds("area", area=AREA, xy=None, targets=None, n_folds=4, seed=0, block_m=1)
FOLDS = build_folds("area", FOLD, area=AREA, xy=None, block_m=1, buffer_m=0)
SPLITS = list(FOLDS.splits())


def choose(build: Any) -> float:
    """Return the C of the highest balanced accuracy out of fold, the smallest of equals."""
    found = []
    for C in CS:
        said = np.empty(N, np.int64)
        for train, held in SPLITS:
            model = make_pipeline(StandardScaler(), build(C=C)).fit(X[train], CODE[train])
            said[held] = model.predict(X[held])
        found.append(balanced_accuracy_score(CODE, said))
    return CS[int(np.argmax(np.round(found, 12)))]


def test_logistic_is_that_of_scikit_learn() -> None:
    model = Logistic(CS, task="class").fit(Features(X), Y, folds=FOLDS, weight=ONES)
    C = choose(LogisticRegression)
    assert model.chosen_ == [{"C": C}]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=C)).fit(X, CODE)
    np.testing.assert_allclose(model.predict(Features(X)), theirs.predict_proba(X), atol=1e-3)


def test_support_vectors_are_those_of_scikit_learn_and_calibrated_inside_the_folds() -> None:
    model = SupportVectors(CS, task="class").fit(Features(X), Y, folds=FOLDS, weight=ONES)
    C = choose(LinearSVC)
    assert model.chosen_ == [{"C": C}]
    pipeline = make_pipeline(StandardScaler(), LinearSVC(C=C, random_state=0))
    predicted = model.predict(Features(X))
    np.testing.assert_array_equal(predicted.argmax(axis=1), pipeline.fit(X, CODE).predict(X))
    theirs = CalibratedClassifierCV(pipeline, method="temperature", cv=SPLITS, ensemble=False)
    expected = theirs.fit(X, CODE).predict_proba(X)
    np.testing.assert_allclose(predicted, expected, atol=5e-3)


def test_support_vectors_of_two_classes_keep_their_side() -> None:
    two = spread_classes(CODE % 2, 2)
    model = SupportVectors((0.01,), task="class").fit(Features(X), two, folds=FOLDS, weight=ONES)
    theirs = make_pipeline(StandardScaler(), LinearSVC(C=0.01, random_state=0)).fit(X, CODE % 2)
    said = model.predict(Features(X)).argmax(axis=1)
    np.testing.assert_array_equal(said, theirs.predict(X))


@pytest.mark.parametrize("is_weighted", [False, True])
def test_numbers_are_those_of_a_pipeline_on_standardised_labels(is_weighted: bool) -> None:
    y = 50 + 7 * X[:, 0] + RNG.normal(size=N)
    labels = np.column_stack([y, np.where(np.arange(N) < 30, np.nan, y)])
    weight = RNG.uniform(0.5, 2, N) if is_weighted else ONES
    model = SupportVectors((0.01,)).fit(Features(X), labels, folds=FOLDS, weight=weight)
    for t in range(2):
        known = np.isfinite(labels[:, t])
        own = weight[known]
        scaler = StandardScaler().fit(X[known], sample_weight=own)
        of_labels = StandardScaler().fit(y[known, None], sample_weight=own)
        theirs = LinearSVR(C=0.01, epsilon=0.1, random_state=0)
        standard = of_labels.transform(y[known, None]).ravel()
        theirs.fit(scaler.transform(X[known]), standard, sample_weight=own)
        said = of_labels.inverse_transform(theirs.predict(scaler.transform(X))[:, None])
        np.testing.assert_allclose(model.predict(Features(X))[:, t], said.ravel(), atol=1e-2)
