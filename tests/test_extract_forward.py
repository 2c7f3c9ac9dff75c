"""Forward pass: the same embeddings by every runtime, one compiled shape, a checked precision."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import weakref
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from extract.config.cuts import parse_cut
from extract.errors import NetworkError
from extract.networks import forward as forward_module
from extract.networks.backbones import build_base, build_network, store
from extract.networks.batchnorm_folding import fold_batch_norms
from extract.networks.forward import least_cosine, open_forward
from extract.networks.runtimes import selection as runtimes
from extract.networks.runtimes.selection import choose_runtime
from extract.settings import ExtractSettings, read_settings

BACKEND = keras.backend.backend()
CUTS = [
    "mobilenetv2/block_3_expand_relu:map",
    "mobilenetv2/block_1_expand_BN:max",
    "mobilenetv2/block_2_expand:avg",
    "mobilenetv2/block_3_depthwise_relu:flat",
]
TWO_CUTS = '"mobilenetv2/block_1_expand_relu:avg", "mobilenetv2/block_3_expand_relu:map"'
PICTURES = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
SCRIPT = """
import sys, numpy as np
from pathlib import Path
from extract.networks.forward import open_forward
from extract.settings import ExtractSettings, read_settings
settings = read_settings(Path(sys.argv[1]), ExtractSettings)
pictures = np.load(sys.argv[2])
for runtime, path, expected in zip(("keras", "auto"), sys.argv[3:5], sys.argv[5:7]):
    extract = settings.extract.model_copy(update={"runtime": runtime})
    asked = settings.model_copy(update={"extract": extract})
    forward = open_forward(asked, "mobilenetv2", pictures, allow_random=False)
    print(forward.versions)
    assert forward.runtime == expected, forward.runtime
    first, second = forward.submit(pictures), forward.submit(pictures[:3])
    rows, fewer = first.result(), second.result()
    assert all((rows[name][:3] == fewer[name]).all() for name in rows)
    np.savez(path, **rows)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights of a small network, none of its batch norms trivial."""
    path = tmp_path_factory.mktemp("weights") / "weights.h5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for layer in build_base("mobilenetv2", size=32).layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [f"w{i}" for i in range(len(layer.weights))]
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            for i, weight in enumerate(layer.weights):
                fan_in = np.prod(weight.shape[:-1])
                values = (
                    rng.uniform(0.5, 1.5, weight.shape)
                    if is_norm
                    else rng.normal(0, (2 / fan_in) ** 0.5, weight.shape)
                )
                group[f"w{i}"] = values.astype(np.float32)
    return path


@pytest.fixture
def settings(experiment, weights) -> ExtractSettings:
    """Four cuts of the small network."""
    path = experiment(
        replace={
            TWO_CUTS: str(CUTS)[1:-1].replace("'", '"'),
            'weights = "random:0"': f'weights = {{ mobilenetv2 = "{weights}" }}\ndtype = "float32"',
        }
    )
    return read_settings(path, ExtractSettings)


@pytest.fixture(scope="module")
def expected(weights) -> dict[str, np.ndarray]:
    """Rows of the pictures as Keras computes them, layer by layer."""
    cuts = [parse_cut(cut) for cut in CUTS]
    network = build_network(cuts, size=32, weights=str(weights))
    return dict(zip(network.shapes, compute(network.model, PICTURES), strict=True))


def compute(model: keras.Model, inputs: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a model, which is not compiled for so few pictures."""
    outputs = keras.tree.flatten(model(inputs, training=False))
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def with_extract(settings: ExtractSettings, **values) -> ExtractSettings:
    return settings.model_copy(update={"extract": settings.extract.model_copy(update=values)})


def assert_agree(a, b) -> None:
    assert least_cosine(a, b)[0] >= 0.9999
    for name in b:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-3, atol=1e-4 * np.abs(b[name]).max())


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_every_backend_gives_the_same(settings, expected, tmp_path, backend):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    chosen = "openvino" if backend == "tensorflow" and find_spec("openvino") else backend
    np.save(tmp_path / "pictures.npy", PICTURES)
    files = [tmp_path / name for name in ("small.toml", "pictures.npy", "keras.npz", "auto.npz")]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, files), backend, chosen],
        cwd=Path(__file__).parents[1],
        text=True,
        capture_output=True,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert result.returncode == 0, result.stderr
    for path in files[2:]:
        assert_agree(np.load(path), expected)


def test_a_network_that_openvino_cannot_read_names_the_remedy(settings, monkeypatch):
    pytest.importorskip("openvino")

    class OpConversionFailure(Exception):  # noqa: N818
        """As OpenVINO's, of no other kind."""

    def fail(self, *args, **options):
        raise OpConversionFailure(
            "Check 'false' failed:\nNo conversion rule found for operations: XlaCallModule\n\n"
        )

    monkeypatch.setattr(keras.Model, "export", fail)
    with pytest.raises(NetworkError, match=r"cannot read the network.*KERAS_BACKEND=tensorflow"):
        open_forward(
            with_extract(settings, runtime="openvino"), "mobilenetv2", PICTURES, allow_random=False
        )


def test_openvino_gives_the_same(settings, expected):
    pytest.importorskip("openvino")
    forward = open_forward(
        with_extract(settings, runtime="openvino"), "mobilenetv2", PICTURES, allow_random=False
    )
    assert (forward.runtime, forward.device, forward.precision) == ("openvino", "cpu", "float32")
    first, second = forward.submit(PICTURES), forward.submit(PICTURES[:3])
    rows, fewer = first.result(), second.result()
    assert_agree(rows, expected)
    assert_agree(fewer, {name: values[:3] for name, values in rows.items()})


@pytest.fixture
def chain(experiment) -> ExtractSettings:
    """Cuts of VGG16 by every pooling, not in their order, of pictures whose sides become odd."""
    cuts = [
        "vgg16/block3_conv2:map",
        "vgg16/block2_pool:flat",
        "vgg16/block4_pool:avg",
        "vgg16/block1_pool:max",
    ]
    path = experiment(
        replace={
            TWO_CUTS: str(cuts)[1:-1].replace("'", '"'),
            "size = 32": "size = 54",
            "batch = 4": "batch = 3",
        }
    )
    return read_settings(path, ExtractSettings)


def test_ncnn_gives_the_same(chain):
    pytest.importorskip("ncnn")
    pictures = np.random.default_rng(2).integers(0, 256, (3, 54, 54, 3), dtype=np.uint8)
    chain = with_extract(chain, precision="float32")
    ncnn, keras_own = (
        open_forward(with_extract(chain, runtime=name), "vgg16", pictures, allow_random=False)
        for name in ("auto", "keras")
    )
    assert (ncnn.runtime, ncnn.device, ncnn.precision, keras_own.runtime) == (
        "ncnn",
        "cpu",
        "float32",
        BACKEND,
    )
    first, second = ncnn.submit(pictures), ncnn.submit(pictures[:2])
    rows, fewer = first.result(), second.result()
    assert ncnn.shapes == keras_own.shapes
    assert_agree(rows, keras_own(pictures))
    for name, shape in ncnn.shapes.items():
        assert (rows[name].dtype, rows[name].shape) == (np.float16, (3, *shape))
        np.testing.assert_array_equal(fewer[name], rows[name][:2])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"precision": "bfloat16"}, 'it computes in float32, and precision is "bfloat16"'),
        (
            {"cuts": [parse_cut("vgg16/fc2:avg")]},
            "runs vgg16 and vgg19, up to block5_pool, and a cut is another",
        ),
        (
            {"cuts": [parse_cut("mobilenetv2/block_1_expand_relu:avg")]},
            "runs vgg16 and vgg19, up to block5_pool, and a cut is another",
        ),
    ],
)
def test_ncnn_refuses_what_it_cannot_run(chain, values, said):
    pytest.importorskip("ncnn")
    chain = with_extract(chain, runtime="ncnn", **values)
    with pytest.raises(NetworkError, match=rf'runtime = "ncnn": .*{said}.*runtime = "auto"'):
        open_forward(chain, chain.extract.cuts[0].backbone, PICTURES, allow_random=False)


def test_ncnn_refuses_pictures_of_another_shape(chain):
    pytest.importorskip("ncnn")
    forward = open_forward(
        with_extract(chain, runtime="ncnn"),
        "vgg16",
        np.zeros((1, 54, 54, 3), np.uint8),
        allow_random=False,
    )
    with pytest.raises(ValueError, match=r"expected shape \(n, 54, 54, 3\), got \(3, 54, 54, 4\)"):
        forward.submit(np.zeros((3, 54, 54, 4), np.uint8))


@pytest.mark.parametrize("runtime", ["ncnn", "openvino"])
def test_shards_of_a_runtime_that_is_gone_say_so(chain, monkeypatch, runtime):
    monkeypatch.setattr(runtimes, "find_gpu", lambda: None)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    with pytest.raises(
        NetworkError,
        match=rf"{runtime} is not installed here, and the shards that are there .*--fresh",
    ):
        open_forward(
            chain, "vgg16", PICTURES, allow_random=False, precision="float32", runtime=runtime
        )


def test_a_runtime_that_cannot_be_loaded_is_named(chain, monkeypatch):
    pytest.importorskip("ncnn")

    def fail(name):
        raise ImportError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(runtimes.importlib, "import_module", fail)
    with pytest.raises(
        NetworkError, match=r'ncnn is installed, and cannot be loaded: libgomp.*runtime = "keras"'
    ):
        runtimes.compile_network("ncnn", None, batch=1, precision="float32")


def test_ncnn_takes_float32_where_the_precision_is_left_to_it(chain, monkeypatch):
    pytest.importorskip("ncnn")
    monkeypatch.setattr(forward_module, "has_bfloat16", lambda: True)
    pictures = np.zeros((3, 54, 54, 3), np.uint8)
    forward = open_forward(
        with_extract(chain, runtime="ncnn"), "vgg16", pictures, allow_random=False
    )
    assert (forward.runtime, forward.precision) == ("ncnn", "float32")


def test_a_network_that_is_no_chain_is_not_written_for_ncnn():
    pytest.importorskip("ncnn")
    from extract.networks.runtimes.ncnn_runtime import convert_chain

    with pytest.raises(NetworkError, match="layer 'Conv1': ncnn runs nothing but"):
        convert_chain(build_base("mobilenetv2", size=32))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["openvino", "ncnn"])
@pytest.mark.usefixtures("chain")
def test_batches_that_nobody_fetches_leave_the_memory_whole(tmp_path, runtime):
    pytest.importorskip(runtime)
    script = """
import sys
import numpy as np
from pathlib import Path
from extract.networks.forward import open_forward
from extract.settings import ExtractSettings, read_settings
settings = read_settings(Path(sys.argv[1]), ExtractSettings)
values = {"runtime": sys.argv[2], "precision": "float32", "size": 64, "batch": 8}
extract = settings.extract.model_copy(update=values)
settings = settings.model_copy(update={"extract": extract})
pictures = np.zeros((8, 64, 64, 3), np.uint8)
forward = open_forward(settings, "vgg16", pictures[:1], allow_random=False)
for _ in range(4):
    flight = [forward.submit(pictures.copy()) for _ in range(2)]
    del flight
    others = [np.ones(10_000) for _ in range(100)]
flight = [forward.submit(pictures) for _ in range(2)]
del flight, forward
print("left")
"""
    command = [sys.executable, "-c", script, str(tmp_path / "small.toml"), runtime]
    result = subprocess.run(command, cwd=Path(__file__).parents[1], text=True, capture_output=True)
    assert (result.returncode, result.stdout) == (0, "left\n"), result.stderr


def test_openvino_batches_in_flight_and_rows_that_were_fetched_stay_what_they_are(settings):
    pytest.importorskip("openvino")
    forward = open_forward(
        with_extract(settings, runtime="openvino", batch=4),
        "mobilenetv2",
        PICTURES,
        allow_random=False,
    )
    others = [np.ascontiguousarray(PICTURES[::-1]), PICTURES // 2, 255 - PICTURES]
    flight = [forward.submit(pictures) for pictures in (PICTURES, *others)]
    rows = [pending.result() for pending in flight]
    again = forward.submit(
        others[0][:, :, ::-1]
    )  # a view that does not lie in one piece takes a slot that was used
    for name in forward.shapes:
        assert not np.array_equal(again.result()[name], rows[1][name])
        np.testing.assert_array_equal(rows[1][name], rows[0][name][::-1])
        for pictures, one in zip((PICTURES, *others), rows, strict=True):
            np.testing.assert_array_equal(forward(pictures)[name], one[name])


def test_a_batch_that_is_not_full_gives_the_same_rows(settings):
    forward = open_forward(settings, "mobilenetv2", PICTURES, allow_random=False)
    whole, part = forward(PICTURES), forward(PICTURES[:1])
    for name, shape in forward.shapes.items():
        assert part[name].shape == (1, *shape)
        np.testing.assert_array_equal(part[name], whole[name][:1])


def test_values_come_in_the_stored_type_and_never_infinite():
    stored = keras.ops.convert_to_numpy(store(np.float32([[1e6, -1e6, 0.5, np.nan]]), "float16"))
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored, np.float16([[65504, -65504, 0.5, np.nan]]))


def test_cuts_that_float16_would_lose_are_stored_as_float32_and_said(settings, monkeypatch):
    build = forward_module.build_network

    def build_small(*args, **said):
        """Build the network, the second cut's rows divided by 1e9."""
        network = build(*args, **said)
        first, second, *others = network.exact.outputs
        small = keras.Model(network.exact.input, [first, second * 1e-9, *others])
        return replace(network, exact=small)

    settings = with_extract(settings, dtype="float16", weights="random:0")
    monkeypatch.setattr(forward_module, "build_network", build_small)
    forward = open_forward(settings, "mobilenetv2", PICTURES, allow_random=False)
    first, second, *_ = forward.shapes
    assert forward.float32_cuts == second
    assert re.fullmatch(f"{second}: .* columns are lost .*; stored as float32", forward.note)
    types = [str(rows.dtype) for rows in forward(PICTURES).values()]
    assert types == ["float16", "float32", "float16", "float16"]
    recorded = open_forward(
        settings, "mobilenetv2", PICTURES, allow_random=False, float32_cuts=first
    )
    types = [str(rows.dtype) for rows in recorded(PICTURES).values()]
    assert types == ["float32", "float16", "float16", "float16"]


@pytest.mark.parametrize("name", ["mobilenet", "mobilenetv2", "xception"])
def test_random_weights_of_deep_depthwise_networks_do_not_end_in_zeros(name):
    layer = build_base(name, size=96).layers[-1].name
    network = build_network(
        [parse_cut(f"{name}/{layer}:avg")], size=96, weights="random:0", stored="float16"
    )
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    (rows,) = compute(network.model, pictures)
    assert np.isfinite(rows).all()
    assert len(np.unique(rows)) > rows.shape[1] // 2


def test_auto_takes_bfloat16_where_it_agrees_with_float32(settings, expected, monkeypatch):
    monkeypatch.setattr(forward_module, "has_bfloat16", lambda: True)
    forward = open_forward(
        with_extract(settings, precision="auto"), "mobilenetv2", PICTURES, allow_random=False
    )
    assert (forward.precision, forward.note) == ("bfloat16", "")
    assert 0.9999 <= least_cosine(forward(PICTURES), expected)[0] < 1


def test_auto_refuses_bfloat16_that_differs_says_so_and_holds_one_model_at_a_time(
    settings, monkeypatch
):
    models, compile_network = [], runtimes.compile_network

    def count(runtime, network, **options):
        assert not [old for old in models if old() is not None]
        models.append(weakref.ref(network.model))
        return compile_network(runtime, network, **options)

    monkeypatch.setattr(forward_module, "has_bfloat16", lambda: True)
    monkeypatch.setattr(forward_module, "_LEAST_COSINE", 1.0)
    monkeypatch.setattr(forward_module, "compile_network", count)
    forward = open_forward(
        with_extract(settings, precision="auto"), "mobilenetv2", PICTURES, allow_random=False
    )
    assert (forward.precision, len(models)) == ("float32", 3)
    assert forward.note.startswith("bfloat16 refused: cosine 0.9")
    assert any(parse_cut(cut).dataset in forward.note for cut in CUTS)


def test_the_least_cosine_names_its_cut_and_takes_nothing_for_agreement():
    a = {"x": np.float32([[1, 0], [0, 0]]), "y": np.float32([[1, 0]])}
    assert least_cosine(a, a) == (1.0, "x")
    assert least_cosine(a, {**a, "y": np.float32([[0, 0]])}) == (0.0, "y")
    assert least_cosine(a, {**a, "y": np.float32([[np.nan, 1]])}) == (-1.0, "y")


def small_model(*, cut_first: bool = False) -> keras.Model:
    """Every kind of convolution and of batch norm that can be folded, and some that cannot."""
    layers = keras.layers
    start = keras.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, use_bias=False, name="first")(start)
    x = layers.BatchNormalization(name="after_first")(first)
    x = layers.BatchNormalization(name="after_norm")(layers.ReLU()(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.BatchNormalization(name="after_depthwise", scale=False)(x)
    x = layers.SeparableConv2D(5, 3, use_bias=False, name="separable")(x)
    x = layers.BatchNormalization(name="after_separable", center=False)(x)
    shared = layers.Conv2D(5, 1, name="shared")(x)
    x = layers.Add()([layers.BatchNormalization(name="after_shared")(shared), shared])
    model = keras.Model(start, [x, first] if cut_first else x)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.2, w.shape) for w in model.get_weights()])
    return model


def norms(model: keras.Model) -> set[str]:
    return {
        layer.name for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    }


def test_batch_norms_are_folded_where_that_is_exact_and_nowhere_else():
    model = small_model()
    folded = fold_batch_norms(model)
    assert norms(folded) == {"after_norm", "after_shared"}
    pictures = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(
        compute(folded, pictures), compute(model, pictures), rtol=1e-4, atol=1e-4
    )


def test_a_convolution_that_is_a_cut_keeps_its_own_output():
    model = small_model(cut_first=True)
    folded = fold_batch_norms(model)
    assert "after_first" in norms(folded)
    pictures = np.random.default_rng(1).normal(size=(2, 8, 8, 3)).astype(np.float32)
    for ours, theirs in zip(compute(folded, pictures), compute(model, pictures), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_has_no_batch_norm_to_fold_is_left_alone():
    base = build_base("vgg16", size=32)
    assert fold_batch_norms(base) is base


@pytest.mark.parametrize(
    ("gpu", "installed", "precision", "expected"),
    [
        (None, True, "float32", "openvino"),
        (None, True, "float16", BACKEND),
        (None, False, "float32", BACKEND),
        (runtimes.Gpu("a GPU", True), True, "float32", BACKEND),
    ],
)
def test_auto_takes_openvino_on_a_cpu_that_has_it(monkeypatch, gpu, installed, precision, expected):
    monkeypatch.setattr(runtimes, "find_gpu", lambda: gpu)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: bool(installed))
    assert choose_runtime("auto", precision=precision, is_chain=False) == expected
    assert choose_runtime("keras", precision=precision, is_chain=False) == BACKEND


def test_auto_leaves_openvino_to_tensorflow_whose_networks_it_reads(monkeypatch):
    monkeypatch.setattr(runtimes, "find_gpu", lambda: None)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert choose_runtime("auto", precision="float32", is_chain=False) == "jax"
    assert choose_runtime("auto", precision="float32", is_chain=True) == "ncnn"


@pytest.mark.parametrize(
    ("gpu", "installed", "precision", "expected"),
    [
        (None, ("ncnn", "openvino"), "float32", "ncnn"),
        (None, ("ncnn", "openvino"), "bfloat16", "openvino"),
        (None, ("openvino",), "float32", "openvino"),
        (None, (), "float32", BACKEND),
        (runtimes.Gpu("a GPU", True), ("ncnn", "openvino"), "float32", BACKEND),
    ],
)
def test_auto_takes_ncnn_for_a_chain_of_convolutions_in_float32(
    monkeypatch, gpu, installed, precision, expected
):
    monkeypatch.setattr(runtimes, "find_gpu", lambda: gpu)
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda: True)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: name in installed)
    assert choose_runtime("auto", precision=precision, is_chain=True) == expected


def test_a_runtime_that_cannot_be_had_names_the_remedy(monkeypatch):
    monkeypatch.setattr(runtimes, "is_installed", lambda name: False)
    with pytest.raises(NetworkError, match=r"pip install '?\"?\.\[openvino\]"):
        choose_runtime("openvino", precision="float32", is_chain=False)
    monkeypatch.setattr(runtimes, "is_installed", lambda name: True)
    with pytest.raises(NetworkError, match=r'float16.*runtime = "keras"'):
        choose_runtime("openvino", precision="float16", is_chain=False)
    other = "torch" if BACKEND != "torch" else "jax"
    with pytest.raises(NetworkError, match=f"KERAS_BACKEND={other}"):
        choose_runtime(other, precision="float32", is_chain=False)


def test_a_backend_that_is_not_installed_is_told_with_the_remedy():
    missing = next((name for name in ("jax", "torch", "tensorflow") if not find_spec(name)), None)
    if missing is None:
        pytest.skip("every backend is installed")
    result = subprocess.run(
        [sys.executable, "-c", "import extract.networks.forward"],
        cwd=Path(__file__).parents[1],
        text=True,
        capture_output=True,
        env={**os.environ, "KERAS_BACKEND": missing},
    )
    assert "Keras cannot load its backend" in result.stderr
    assert f"KERAS_BACKEND={'torch' if missing != 'torch' else 'jax'}" in result.stderr


def test_a_folder_with_the_name_of_a_runtime_is_none(tmp_path, monkeypatch):
    (tmp_path / "ncnn_of_mine").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert find_spec("ncnn_of_mine")
    assert not runtimes.is_installed("ncnn_of_mine")
    assert runtimes.is_installed("numpy")


def test_networks_whose_layers_keras_numbers_are_the_same_whatever_was_built_before():
    def build():
        return build_network([parse_cut("xception/conv2d_1:avg")], size=71, weights="random:0")

    first, other = build(), keras.layers.Conv2D(1, 1)  # which makes Keras count on
    assert build().weights_sha256 == first.weights_sha256
    assert keras.layers.Conv2D(1, 1).name != other.name


def test_the_private_names_of_keras_are_those_of_version_3():
    """`extract.networks.graph` is the only file that uses them."""
    from keras.src.backend.common import global_state

    assert keras.__version__.split(".")[0] == "3"
    keras.layers.Conv2D(1, 1)
    assert global_state.get_global_attribute("object_name_uids")["conv2d"] >= 1
