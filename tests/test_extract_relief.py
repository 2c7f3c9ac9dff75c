"""Channels equal their definitions, cells without data weigh nothing, and resampling keeps places
and means.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import grey_opening

from extract.tiling.lattice import build_lattice
from extract.tiling.relief import CHANNELS, build_channels, find_ground, gradient, margin_cells
from extract.tiling.resample import resample

RNG = np.random.default_rng(0)
ROUGH = (10 * RNG.random((60, 80))).astype(np.float32)


def test_a_plane_has_the_slope_and_the_light_of_its_angle() -> None:
    east = np.tile(np.arange(50) * 2.0, (40, 1)).astype(
        np.float32
    )  # rises by 1 in 1 to the east: faces west
    slope, light = build_channels(east, np.zeros_like(east), ["slope", "hillshade"], cell_m=2.0)
    np.testing.assert_allclose(slope, 45.0, atol=1e-4)
    np.testing.assert_allclose(
        light, 0.5 + np.sqrt(0.5) / 2 - 0.0, atol=1e-5
    )  # normal (-1, 0, 1)/√2, light (-½, -½, √½)


def test_flat_ground_has_the_light_of_its_height_and_no_roughness() -> None:
    surface = np.full((30, 30), 700.0, np.float32)
    planes = build_channels(surface, surface - 10, list(CHANNELS), cell_m=1.0)
    assert dict(zip(CHANNELS, planes[:, 15, 15].round(4), strict=True)) == pytest.approx(
        {"height": 10.0, "slope": 0.0, "hillshade": np.sqrt(0.5), "roughness": 0.0}, abs=1e-3
    )


def test_roughness_is_the_standard_deviation_in_its_square() -> None:
    rough = build_channels(ROUGH + 400, ROUGH * 0, ["roughness"], cell_m=2.0)[0]
    assert rough[20, 30] == pytest.approx(ROUGH[18:23, 28:33].std(), abs=1e-3)


def test_the_ground_is_the_opening_and_houses_stand_on_it() -> None:
    np.testing.assert_array_equal(
        find_ground(ROUGH, cell_m=2.0, opening_m=12.0), grey_opening(ROUGH, (7, 7))
    )
    flat = np.full((100, 100), 5.0, np.float32)
    flat[40:60, 30:55] = 17.0
    assert (find_ground(flat, cell_m=1.0, opening_m=40.0) == 5.0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_take_the_neighbour_that_there_is(axis: int) -> None:
    heights = ROUGH.copy()
    heights[10, 10] = np.nan
    rise = gradient(heights, axis=axis, cell_m=2.0)
    wanted = np.gradient(ROUGH, 2.0, axis=axis)
    beside = (11, 10) if axis == 0 else (10, 11)
    after = (12, 10) if axis == 0 else (10, 12)
    assert rise[beside] == pytest.approx((ROUGH[after] - ROUGH[beside]) / 2, rel=1e-5)
    np.testing.assert_allclose(rise[30:], wanted[30:], rtol=1e-4)


def test_cells_without_data_are_lost_alone_and_change_only_what_is_within_the_margin() -> None:
    holed = ROUGH.copy()
    holed[30, 40] = np.nan
    names = list(CHANNELS)
    whole, other = (
        build_channels(h, find_ground(h, cell_m=2.0, opening_m=12.0), names, cell_m=2.0)
        for h in (ROUGH, holed)
    )
    assert np.isnan(other).any(axis=0).sum() == 1
    near = margin_cells(cell_m=2.0, opening_m=12.0)
    far = np.ones(ROUGH.shape, bool)
    far[30 - near : 31 + near, 40 - near : 41 + near] = False
    np.testing.assert_allclose(other[:, far], whole[:, far], atol=1e-4)


@pytest.mark.parametrize(
    ("cells", "pixels", "first"),
    [(20, 32, (5, 7)), (40, 16, (2, 3)), (20.5, 33, (4.25, 6.5)), (30.4, 8, (3.3, 1.7))],
)
def test_a_ramp_stays_where_it_is(cells: float, pixels: int, first: tuple[float, float]) -> None:
    down, across = np.mgrid[:60, :60].astype(np.float32) + np.float32(0.5)
    found = resample(np.stack([down, across]), first=first, cells=cells, pixels=pixels)
    centres, near = (
        (np.arange(pixels) + 0.5) * cells / pixels,
        0.125 if cells > pixels else 1e-3,
    )  # cells are flat
    np.testing.assert_allclose(
        found[0], np.tile(first[0] + centres[:, None], (1, pixels)), atol=near
    )
    np.testing.assert_allclose(found[1], np.tile(first[1] + centres, (pixels, 1)), atol=near)


def test_shrinking_keeps_the_mean_and_cells_without_data_weigh_nothing() -> None:
    planes = RNG.random((1, 40, 40)).astype(np.float32)
    small = resample(planes, first=(0, 0), cells=40, pixels=8)[0]
    np.testing.assert_allclose(small, planes[0].reshape(8, 5, 8, 5).mean(axis=(1, 3)), atol=1e-5)
    planes[0, :5, :2], planes[0, :5, 5:8] = np.nan, np.nan
    small = resample(planes, first=(0, 0), cells=40, pixels=8)[0]
    assert small[0, 0] == pytest.approx(planes[0, :5, 2:5].mean(), abs=1e-5)
    assert np.isnan(small[0, 1])
    assert np.isnan(small).sum() == 1


def test_the_lattice_is_fixed_by_the_coordinates_and_covers_what_is_there() -> None:
    one = build_lattice(np.array([[530_000, 180_000, 531_000, 181_000]]), size_m=200, stride_m=200)
    bounds = np.array([[530_010, 180_000, 530_900, 181_000], [530_800, 180_100, 531_300, 180_150]])
    more = build_lattice(bounds, size_m=200, stride_m=200)
    assert len(one) == 25
    assert one.ids()[0] == "e530000n180000"
    assert set(one.ids()) < set(more.ids())
    assert set(more.ids()) - set(one.ids()) == {"e531000n180000", "e531200n180000"}
    assert len(build_lattice(np.array([[0, 0, 1000, 1000]]), size_m=200, stride_m=50)) == 23**2


def test_blocks_share_out_every_tile_once() -> None:
    lattice = build_lattice(np.array([[0, 0, 9000, 5000]]), size_m=200, stride_m=200)
    blocks = lattice.blocks(np.arange(0, len(lattice), 3), cell_m=1.0)
    assert sorted(np.concatenate(blocks)) == list(range(0, len(lattice), 3))
    assert max(map(len, blocks)) <= 100
