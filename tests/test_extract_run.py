from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from stub_network import open_stub

from extract.errors import EmbeddingsError, ExtractionError, LockError, NetworkError
from extract.run import run_extraction
from extract.settings import ExtractSettings, read_settings
from extract.store.embeddings import Embeddings

AVG, MAP = "block_1_expand_relu:avg", "block_3_expand_relu:map"


def extract(path, open_forward=open_stub, **options):
    settings = read_settings(path, ExtractSettings)
    return run_extraction(settings, open_forward=open_forward, **options)


def features(path) -> Path:
    return path.parent / "out" / "features"


def test_every_tile_has_its_row_and_its_status(experiment):
    path = experiment()
    (path.parent / "tiles" / "3.png").write_text("no picture")
    (path.parent / "tiles" / "4.png").unlink()
    (path.parent / "tiles" / "extra.png").write_bytes(b"")
    summary = extract(path, open_forward=None)
    with Embeddings(features(path) / "mobilenetv2.h5") as embeddings:
        assert embeddings.ids.tolist() == list(range(12))
        assert np.flatnonzero(~embeddings.is_ok).tolist() == [3, 4]
        values = embeddings.read(AVG)
        assert values.dtype == np.float16
        assert np.flatnonzero(np.isnan(values).any(axis=1)).tolist() == [3, 4]
        assert embeddings.read(MAP).ndim == 4
        names = {
            "schema",
            "schema_version",
            "settings",
            "weights_sha256",
            "tiles_sha256",
            "created_with",
        }
        assert names <= set(embeddings.attributes)
    rejects = pd.read_csv(features(path) / "rejects.csv")
    assert rejects.to_dict("list") == {
        "id": [3, 4],
        "path": ["3.png", "4.png"],
        "reason": ["not an image", "file missing"],
    }
    assert (summary.n_rejected, summary.n_unlisted) == (2, 1)
    stages = json.loads((features(path) / "stages.json").read_text())["mobilenetv2"]
    assert {
        "tiles",
        "tiles_per_second",
        "seconds",
        "device",
        "precision",
        "peak_rss_bytes",
        "startup_seconds",
    } <= set(stages)
    assert set(stages["seconds"]) == {"read", "decode", "forward", "write", "total"}


def test_a_second_call_does_nothing(experiment):
    path = experiment()
    extract(path)
    before = {p: p.stat().st_mtime_ns for p in features(path).rglob("part-*.h5")}
    assert extract(path).done == []
    assert before == {p: p.stat().st_mtime_ns for p in features(path).rglob("part-*.h5")}


def test_other_settings_are_refused_by_name_unless_fresh(experiment):
    extract(experiment())
    path = experiment(replace={"size = 32": "size = 48"})
    with pytest.raises(ExtractionError, match=r"size was 32, now 48.*--fresh"):
        extract(path)
    assert extract(path, fresh=True).done == ["mobilenetv2"]


def test_only_missing_shards_are_done_again_and_equal_the_first(experiment):
    path = experiment()
    extract(path)
    with Embeddings(features(path) / "mobilenetv2.h5") as embeddings:
        whole = embeddings.read(AVG)
    (features(path) / "mobilenetv2" / "part-00001.h5").unlink()
    with pytest.raises(EmbeddingsError, match=r"part-00001.h5 is missing"):
        Embeddings(features(path) / "mobilenetv2.h5")
    extract(path)
    with Embeddings(features(path) / "mobilenetv2.h5") as embeddings:
        np.testing.assert_array_equal(embeddings.read(AVG), whole)


def test_a_folder_in_use_is_refused_with_the_pid(experiment):
    fcntl = pytest.importorskip("fcntl")
    path = experiment()
    features(path).mkdir(parents=True)
    with (features(path) / ".lock").open("w") as handle:
        handle.write("4711")
        handle.flush()
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(LockError, match="in use by process 4711"):
            extract(path)


def test_a_folder_that_cannot_be_written_is_one_clear_error(experiment):
    path = experiment()
    features(path).parent.mkdir()
    features(path).write_text("in the way")
    with pytest.raises(LockError, match=r"features: cannot be written \(File exists\).*`out`"):
        extract(path)


def test_strict_makes_a_reject_an_error_and_all_rejected_is_one(experiment):
    path = experiment()
    (path.parent / "tiles" / "3.png").write_text("no picture")
    with pytest.raises(ExtractionError, match="not an image"):
        extract(path, strict=True)
    for tile in (path.parent / "tiles").iterdir():
        tile.unlink()
    with pytest.raises(
        ExtractionError, match=r"every tile was rejected, the first as 0.png: file missing"
    ):
        extract(path)


def test_a_run_that_rejects_every_tile_stands_in_no_other_s_way(experiment):
    path = experiment(replace={"{id}.png": "{id}.PNG"})
    with pytest.raises(
        ExtractionError, match=r"0.PNG: file missing; did you mean '0.png'.*rejects.csv"
    ):
        extract(path)
    path.write_text(path.read_text().replace("PNG", "png"))
    assert extract(path).n_rejected == 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["keras", "openvino"])
def test_a_full_disk_is_one_clear_error_and_the_run_goes_on(experiment, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    path = experiment(
        n=100,
        replace={
            'runtime = "keras"': f'runtime = "{runtime}"',
            "shard = 5": "shard = 100",
            "batch = 4": "batch = 10",
        },
    )
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000));"
        f"import sys; sys.argv = ['extract', 'run', '--config', {str(path)!r}]; from extract.cli "
        "import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert result.returncode == 1
    assert "make room" in result.stderr.lower()
    assert "Traceback" not in result.stderr
    assert extract(path, open_forward=None).done == ["mobilenetv2"]


def test_a_newer_schema_is_refused(experiment):
    path = experiment()
    extract(path)
    with h5py.File(features(path) / "mobilenetv2.h5", "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(EmbeddingsError, match="newer Roofline"):
        Embeddings(features(path) / "mobilenetv2.h5")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "block_1_expand_relu",
            "block_1_expand_rely",
            "unknown layer.*Did you mean 'block_1_expand_relu'",
        ),
        (
            "mobilenetv2/",
            "mobilnetv2/",
            "backbone 'mobilnetv2': unknown.*Did you mean 'mobilenetv2'",
        ),
    ],
)
def test_unknown_layers_and_backbones_name_the_nearest(experiment, old, new, message):
    with pytest.raises(NetworkError, match=message):
        extract(experiment(replace={old: new}), open_forward=None)


def test_a_file_that_does_not_cover_a_cut_names_the_layer(experiment, shared):
    weights = shared / "weights" / "resnet50v2_to_conv4_block6_out.h5"
    path = experiment(
        replace={
            '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"': '"resnet50v2/post_relu:avg"',
            'weights = "random:0"': f'weights = {{ resnet50v2 = "{weights}" }}',
        }
    )
    with pytest.raises(NetworkError, match="layer 'conv5_block1_preact_bn' is not covered"):
        extract(path, open_forward=None)


@pytest.mark.parametrize(
    ("backbone", "layers", "weights"),
    [
        ("mobilenetv2", ["block_13_expand_relu", "out_relu"], "mobilenetv2_notop.h5"),
        (
            "resnet50v2",
            ["conv3_block4_out", "conv4_block6_out"],
            "resnet50v2_to_conv4_block6_out.h5",
        ),
        ("vgg16", ["block4_pool", "block5_pool", "fc2"], "random:0"),
        ("vgg19", ["block5_pool"], "random:0"),
    ],
)
def test_embeddings_equal_plain_keras(shared, tmp_path, backbone, layers, weights):
    import keras

    from extract.config.cuts import Cut
    from extract.networks.backbones import build_network, load_base
    from extract.networks.registry import REGISTRY
    from extract.pictures.decode import DecodeOptions, decode_tile

    paths = sorted((shared / "data/london_lidar/LIDAR").glob("*.png"))[:3]
    source = weights if weights.startswith("random") else str(shared / "weights" / weights)
    cuts = [Cut(backbone, layer, "avg") for layer in layers]
    network = build_network(cuts, size=224, weights=source)
    pictures = np.stack(
        [decode_tile(p.read_bytes(), DecodeOptions(size=224, max_pixels=10**6))[0] for p in paths]
    )
    outputs = keras.tree.flatten(network.model(pictures, training=False))
    ours = dict(zip(network.shapes, map(np.asarray, outputs), strict=True))

    module = getattr(keras.applications, REGISTRY[backbone].module)
    plain = getattr(module, REGISTRY[backbone].network)(
        weights=None, include_top="fc2" in layers, input_shape=(224, 224, 3)
    )
    if source == "random:0":
        plain.set_weights(
            load_base(backbone, size=224, with_top="fc2" in layers, weights=source).get_weights()
        )
    if source.endswith(".h5"):
        keras.Model(plain.inputs, plain.get_layer(layers[-1]).output).load_weights(source)
    x = module.preprocess_input(
        np.stack([keras.utils.img_to_array(keras.utils.load_img(p)) for p in paths])
    )
    asked = keras.Model(plain.input, [plain.get_layer(layer).output for layer in layers])
    outputs = keras.tree.flatten(asked(x, training=False))
    for layer, output in zip(layers, outputs, strict=True):
        expected = np.asarray(output)
        expected = expected.mean(axis=(1, 2)) if expected.ndim == 4 else expected
        np.testing.assert_allclose(
            np.float16(ours[f"{layer}:avg"]), np.float16(expected), rtol=2e-3, atol=1e-4
        )


def test_names_with_line_ends_and_commas_are_one_row_each(experiment):
    path = experiment()
    names = ["a\rb.png", "c\nd.png", 'e,"f.png']
    for name in names:
        (path.parent / "tiles" / name).write_bytes((path.parent / "tiles" / "0.png").read_bytes())
    settings = read_settings(path, ExtractSettings)
    assert run_extraction(settings, open_forward=open_stub).n_unlisted == 3
    assert pd.read_csv(settings.folder / "features" / "unlisted.csv")["path"].tolist() == names
