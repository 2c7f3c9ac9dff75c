"""Describe what has changed since a cell was fitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_NOUNS = {
    "tiles_sha256": "the tile table",
    "usable_sha256": "which tiles are usable",
    "pictures_sha256": "the pictures",
    "weights_sha256": "the network's weights",
    "network_sha256": "the network that it goes on with",
    "area_sha256": "the areas",
    "groups_sha256": "the group columns",
    "xy_sha256": "the places",
    "members": "which members the stack has",
    "member_keys": "what the members of the stack predict",
    "features_sha256": "the embeddings",
    "folds_sha256": "the folds",
    "labels_sha256": "the labels",
}


def name_changes(
    old: dict[str, Any], new: dict[str, Any], *, cell: tuple[str, str, str], target: str
) -> list[str]:
    """Describe what differs between the inputs that a cell was fitted from and those of now;
    nothing where nothing does.

    Parameters
    ----------
    old, new : input → hash or value; `params` and `versions` hold more of them.
    cell, target : what the inputs belong to, for the words.
    """
    split, cut, model = cell
    of = {
        "labels_sha256": f" of {target}",
        "folds_sha256": f" of {split}",
        "features_sha256": f" of {cut}",
    }
    said = []
    changed = [name for name in new if old.get(name) != new[name]]
    for name in changed:
        if name == "member_keys" and "members" in changed:
            continue
        if name == "params" and "revision" in changed:  # another revision may have others
            continue
        if name in ("params", "versions"):
            said += _name_values(model, old.get(name, {}), new[name])
        elif name in _NOUNS:
            said.append(f"{_NOUNS[name]}{of.get(name, '')} changed")
        else:
            said += _name_values(
                model if name == "revision" else "[models]",
                {name: old.get(name)},
                {name: new[name]},
            )
    return said or [f"{name} no longer matters to {model}" for name in old if name not in new]


def _name_values(owner: str, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    names = [n for n in {**old, **new} if old.get(n) != new.get(n)]
    return [f"{owner}: {n} {old.get(n, 'not there')} → {new.get(n, 'not there')}" for n in names]


def count_reasons(reasons: Iterable[list[str]]) -> str:
    """Return every reason once, with how many cells it made stale where there are several
    reasons.
    """
    counts: dict[str, int] = {}
    for reason in (r for several in reasons for r in dict.fromkeys(several)):
        counts[reason] = counts.get(reason, 0) + 1
    return "; ".join(
        f"{reason} ({n})" if len(counts) > 1 else reason for reason, n in counts.items()
    )
