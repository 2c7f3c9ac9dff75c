"""Plan of the made city: which grid squares it covers, and how areas and boroughs share them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from sklearn.feature_extraction.image import grid_to_graph

from extract.city.truth import FORMS, TARGETS, draw_labels, draw_scores
from extract.config.arrays import Floats, Ints

_AREAS_A_BOROUGH = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Town:
    """Plan of the town: what lies where, what it is built like, and its labels.

    Attributes
    ----------
    side : rows and columns of the grid of squares that the town lies in.
    ids : (n_tiles,), grid square of each tile, counted down the columns from the north-west.
    area : (n_tiles,), area of each tile, 0 … n_areas − 1.
    borough : (n_areas,), borough of each area.
    scores : (n_areas, 5), standard scores of the urban form, one column for each of `FORMS`.
    labels : (n_areas, 7), the targets.
    expected : (n_areas, 7), mean of each target given the form.
    """

    side: int
    ids: Ints
    area: Ints
    borough: Ints
    scores: Floats
    labels: Floats
    expected: Floats


def plan_town(*, n_tiles: int, n_areas: int, seed: int) -> Town:
    """Lay out the town, give every area its form, and draw the targets from the form."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(1.45 * np.sqrt(n_tiles))) + 3
    grid = grid_to_graph(side, side, return_as=csr_matrix)
    middle = side * (side // 2) + side // 2
    distance = dijkstra(_draw_lengths(grid, rng), indices=middle)
    ids = np.sort(np.argsort(distance, kind="stable")[:n_tiles])
    squares = grid[ids][:, ids]
    area = _grow_groups(squares, n_areas, rng)
    membership = csr_matrix((np.ones(n_tiles), (np.arange(n_tiles), area)))
    neighbours = csr_matrix(membership.T @ squares @ membership)
    borough = _grow_groups(neighbours, max(1, round(n_areas / _AREAS_A_BOROUGH)), rng)
    scores = draw_scores(ids, area, side=side, rng=rng)
    labels, expected = draw_labels(scores, rng)
    return Town(
        side=side,
        ids=ids,
        area=area,
        borough=borough,
        scores=scores,
        labels=labels,
        expected=expected,
    )


def _draw_lengths(graph: csr_matrix, rng: np.random.Generator) -> csr_matrix:
    """Return the graph with random lengths, so that what grows along it has irregular outlines."""
    return csr_matrix((rng.gamma(2.0, size=graph.nnz), graph.indices, graph.indptr))


def _grow_groups(graph: csr_matrix, n_groups: int, rng: np.random.Generator) -> Ints:
    """Grow connected groups of unequal size from random starts: (n_nodes,), group of each node."""
    starts = rng.choice(graph.shape[0], n_groups, replace=False)
    _, _, nearest = dijkstra(
        _draw_lengths(graph, rng), indices=starts, min_only=True, return_predecessors=True
    )
    group: Ints = np.unique(nearest, return_inverse=True)[1]
    return group


def build_table(town: Town, seed: int) -> pd.DataFrame:
    """Build the table of tiles: id, area, three groups and the seven targets.

    The groups are the borough and two coarse classes of a noisy look at the form, as real
    geodemographic classes are: of the area (`SOAC11CD`) and of the borough (`LACCD`).
    """
    rng = np.random.default_rng([seed, 1])
    noisy = town.scores + 0.6 * rng.standard_normal(town.scores.shape)
    coverage = noisy[:, FORMS.index("coverage")]
    hardness = noisy[:, FORMS.index("towers")] - noisy[:, FORMS.index("trees")]
    of_boroughs = pd.Series(coverage).groupby(town.borough).mean().to_numpy()
    letters = np.array(["a", "b", "c"])[_thirds(hardness)]
    areas = pd.DataFrame(
        {
            "LSOA11CD": [f"E01{900_001 + k}" for k in range(len(town.labels))],
            "LAD17NM": [f"Borough {k + 1}" for k in town.borough],
            "LACCD": [f"{k + 1}a1r" for k in _thirds(of_boroughs)[town.borough]],
            "SOAC11CD": [f"{k + 1}{x}" for k, x in zip(_thirds(coverage), letters, strict=True)],
        }
    )
    areas[list(TARGETS)] = town.labels
    table = areas.iloc[town.area].reset_index(drop=True)
    table.insert(0, "id", town.ids)
    return table


def _thirds(values: NDArray[np.floating]) -> Ints:
    """Class values into low, middle and high thirds by rank: 0, 1, 2."""
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return rank * 3 // len(values)
