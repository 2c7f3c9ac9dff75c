"""Maps of mirrored tiles beside those of the tiles: the same as those of mirrored pictures, planned, resumed and verified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from extract.checks.doctor import check_network
from extract.checks.plan import plan_extraction
from extract.config.views import VIEWS, list_views, mirror
from extract.errors import ExtractionError, SettingsError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.backbone_shards import BackboneShards
from extract.store.embeddings import Embeddings
from extract.store.verify import find_damage
from extract.tables.tile_table import read_tiles

VIEWED = {"[extract]\n": '[extract]\nviews = ["hflip", "hvflip"]\n'}
CUT = "block_3_expand_relu:map"


def read(path: Path) -> ExtractSettings:
    return read_settings(path, ExtractSettings)


def values(settings: ExtractSettings, name: str) -> np.ndarray:
    with Embeddings(settings.folder / "features" / "mobilenetv2.h5") as file:
        return file.read(name)


def test_views_are_the_embeddings_of_mirrored_pictures(experiment: Callable[..., Path]) -> None:
    settings = read(experiment(replace=VIEWED))
    run_extraction(settings)
    seen = values(settings, f"{CUT}@hflip")
    with Embeddings(settings.folder / "features" / "mobilenetv2.h5") as file:
        assert (file.cuts, file.views) == (
            ["block_1_expand_relu:avg", CUT],
            [f"{CUT}@hflip", f"{CUT}@hvflip"],
        )
    path = experiment()
    for tile in sorted((path.parent / "tiles").iterdir()):
        cv2.imwrite(str(tile), cv2.flip(cv2.imread(str(tile)), 1))
    run_extraction(read(path), fresh=True)
    np.testing.assert_allclose(seen, values(read(path), CUT), rtol=2e-3, atol=1e-5)


def test_flips_make_their_views_and_a_view_twice_is_the_tile() -> None:
    assert [list_views(flips) for flips in ((), ("hflip",), ("vflip", "hflip"))] == [
        [],
        ["hflip"],
        ["hflip", "vflip", "hvflip"],
    ]
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    for view in VIEWS:
        assert (mirror(pictures, view) != pictures).any()
        np.testing.assert_array_equal(mirror(mirror(pictures, view), view), pictures)


def test_views_are_resumed_and_verified_and_rejected_tiles_are_rows_without_numbers(
    experiment: Callable[..., Path],
) -> None:
    path = experiment(replace=VIEWED)
    (path.parent / "tiles" / "3.png").write_bytes(b"broken")
    settings = read(path)
    run_extraction(settings)
    before, shard = (
        values(settings, f"{CUT}@hflip"),
        settings.folder / "features" / "mobilenetv2" / "part-00001.h5",
    )
    assert np.isnan(before[3]).all()
    assert not find_damage(settings)
    data = shard.read_bytes()
    where = data.index(before[7].tobytes()[:64])
    shard.write_bytes(data[:where] + bytes(8) + data[where + 8 :])
    assert [damage.path for damage in find_damage(settings)] == [shard]
    shard.unlink()
    run_extraction(settings)
    np.testing.assert_array_equal(values(settings, f"{CUT}@hflip"), before)


def test_plan_and_doctor_count_their_bytes(experiment: Callable[..., Path]) -> None:
    settings = read(experiment(replace=VIEWED))
    cuts = plan_extraction(settings, seconds=0.1)["backbones"]["mobilenetv2"]["cuts"]
    assert cuts[f"{CUT}@hvflip"] == cuts[f"{CUT}@hflip"] == cuts[CUT]
    found: dict[str, int] = {}
    check_network(
        BackboneShards(settings, read_tiles(settings), "mobilenetv2", tiles_sha256=""),
        None,
        found,
        None,
    )
    assert found["mobilenetv2"] == sum(cut["all"] for cut in cuts.values()) / 12


def test_features_without_the_views_that_are_asked_for_are_refused(
    experiment: Callable[..., Path],
) -> None:
    run_extraction(read(experiment()))
    with pytest.raises(ExtractionError, match=r"views was \[\], now \['hflip', 'hvflip'\]"):
        run_extraction(read(experiment(replace=VIEWED)))


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ('["hflip", "hflip"]', "listed twice"),
        ('["flip"]', "input should be 'hflip', 'vflip' or 'hvflip', got 'flip'"),
    ],
)
def test_views_that_are_none_say_so(
    experiment: Callable[..., Path], views: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        read(experiment(replace={"[extract]\n": f"[extract]\nviews = {views}\n"}))


def test_views_without_a_map_are_refused(experiment: Callable[..., Path]) -> None:
    with pytest.raises(SettingsError, match="no cut is one: add one to cuts"):
        read(
            experiment(
                replace={**VIEWED, ', "mobilenetv2/block_3_expand_relu:map"': ', "pixels/16:map"'}
            )
        )
