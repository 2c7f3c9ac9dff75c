"""Models and splits in words, for readers who do not know their names."""

from __future__ import annotations

BASELINES = {
    "mean": "the mean of the training rows",
    "location": "a map of where places are",
    "region": "the mean of the region",
    "geodemographic": "the classification of areas",
    "metadata": "file size and colour",
}
FAMILIES = {
    "ridge": "linear",
    "knn": "nearest neighbours",
    "forest": "random forest",
    "extratrees": "extremely randomised trees",
    "xgboost": "boosted trees",
    "head": "a small network",
    "logistic": "linear",
    "svm": "support vectors",
    "stack": "several models combined",
}
SPLITS = {
    "random": "single tiles held out",
    "area": "whole areas held out",
    "knndm": "areas held out as far away as the places to be predicted",
    "block": "whole blocks of the map held out",
    "group": "whole groups of areas held out",
}


def explain_model(model: str) -> str:
    """Return a model in words; empty where there are none for it."""
    if model in BASELINES:
        return BASELINES[model]
    family, *options = model.replace("+", " +").replace("@", " @").split()
    words = {"+groups": "with area descriptors", "@area": "on area means"}
    known = [FAMILIES.get(family, ""), *(words.get(option, option) for option in options)]
    return " ".join(known) if known[0] else ""


def name_model(model: str) -> str:
    """Return the name of a model, with what it is where it is a baseline."""
    return f"{model} (baseline)" if model in BASELINES else model


def name_baseline(model: str) -> str:
    """Return a baseline in words, or its name."""
    return BASELINES.get(model, model)
