"""Exported captioners write what Keras writes, without Keras; what differs is not written."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from msgspec.structs import replace

from xray_captioning.bundles.bundle import MANIFEST, find_bundle, rewrite_bundle
from xray_captioning.captioner import export
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.captioner.graphs import RUNTIMES
from xray_captioning.cli import main
from xray_captioning.config import Config
from xray_captioning.data.features import Features
from xray_captioning.data.images import SCHEMES, normalise
from xray_captioning.decoders import DECODERS
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.vision_transformers import build_tower, tower_of
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.files import sha256_file
from xray_captioning.hub.fetch import registry
from xray_captioning.runtime import find_export, load, open_captioner
from xray_captioning.text.tokenizer import Tokenizer

pytest.importorskip("tf2onnx")
pytest.importorskip("onnxruntime")
QUICK = "global_attention"
pytestmark = pytest.mark.usefixtures("eagerly")


def tiny(decoder="global_attention", scheme="imagenet"):
    """An untrained captioner, as small as can be."""
    sizes = {"units": 8, "embedding": 6, "attention": 4, "layers": 1, "heads": 2, "head": 10}
    config = Config.from_dict(
        {
            "name": "tiny",
            "image": {"size": 32, "views": 2, "normalisation": scheme},
            "text": {"maximum_length": 9},
            "model": {"encoder": "phantom_cnn", "decoder": decoder, **sizes},
        },
        "tiny",
    )
    encoder = Encoder("phantom_cnn", 32, findings=("a", "b"))
    tokenizer = Tokenizer.fit(["the heart is normal . no effusion ."])
    return Captioner(config, encoder, new_model(config, encoder, tokenizer), tokenizer)


def images(studies):
    rng = np.random.default_rng(1)
    return [list(rng.random((2 - number % 2, 32, 32), "float32")) for number in range(studies)]


@pytest.fixture(scope="module")
def captioner():
    return tiny()


@pytest.fixture(scope="module")
def folder(captioner, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "graphs"
    captioner.export(out)
    return out


@pytest.mark.parametrize(
    "decoder", [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DECODERS]
)
def test_graphs_are_searched_as_keras_is(decoder, captioner, folder, tmp_path):
    if decoder != QUICK:
        captioner, folder = tiny(decoder), tmp_path / "graphs"
        captioner.export(folder)
    exported, studies = load(folder), images(5)
    features = captioner.features(studies)
    np.testing.assert_allclose(exported.features(studies).regions, features.regions, atol=1e-4)
    for beam_size in (1, 3):
        found, expected = (one.caption_features(features, beam_size) for one in (exported, captioner))
        for one, other in zip(found, expected, strict=True):
            assert one.words == other.words
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
            assert len(one.alternatives) == len(other.alternatives)
            if other.attention is not None:
                np.testing.assert_allclose(one.attention, other.attention, atol=1e-4)


def test_findings_are_those_of_keras(captioner, folder):
    studies = images(3)
    for one, other in zip(load(folder).findings(studies), captioner.findings(studies)):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_openvino_runs_graphs_of_both_formats(form, captioner, folder, tmp_path):
    pytest.importorskip("openvino")
    if form == "openvino":
        captioner.export(folder := tmp_path / "graphs", form)
    features = captioner.features(images(5))
    found = load(folder, "openvino").caption_features(features, 3)
    assert [c.words for c in found] == [c.words for c in captioner.caption_features(features, 3)]


@pytest.mark.parametrize("form", ["litert", "saved_model"])
@pytest.mark.parametrize("decoder", [QUICK, *(pytest.param(d, marks=pytest.mark.slow) for d in DECODERS if d != QUICK)])
def test_other_formats_are_searched_as_keras_is(form, decoder, captioner, tmp_path):
    """Single steps, so that LiteRT runs every decoder: a whole GRU layer it would not."""
    if form == "litert":
        pytest.importorskip("ai_edge_litert")
    captioner = captioner if decoder == QUICK else tiny(decoder)
    captioner.export(tmp_path / "graphs", form)
    exported, studies = open_captioner(tmp_path / "graphs"), images(3)
    assert exported.findings(studies)[0] == pytest.approx(captioner.findings(studies)[0], abs=1e-4)
    for beam_size in (1, 3):
        found, expected = (one.caption(studies, beam_size) for one in (exported, captioner))
        assert [one.words for one in found] == [one.words for one in expected]
    next((tmp_path / "graphs").rglob("step*/saved_model.pb" if form == "saved_model" else "step.*")).write_bytes(b"")
    with pytest.raises(BundleError, match=r"step.*: altered"):
        load(tmp_path / "graphs")


@pytest.mark.parametrize(
    ("form", "precision", "shown", "said"),
    [
        ("onnx", "bfloat16", 0, "bfloat16 of openvino"),
        ("litert", "int8", 1, "int8 of onnx and openvino"),
        ("onnx", "float16", 0, "choose float32"),
        ("onnx", "int8", 0, "images of the training"),
        ("onnx", "float32", 1, "images of the training"),
    ],
)
def test_a_precision_that_cannot_be_had_is_an_error(captioner, tmp_path, form, precision, shown, said):
    with pytest.raises(ConfigError, match=said):
        captioner.export(tmp_path / "graphs", form, precision, images(shown))
    assert not list(tmp_path.iterdir())


def test_int8_is_near_and_says_so(captioner, folder, tmp_path):
    shown = [image for study in images(9) for image in study]
    captioner.export(tmp_path / "graphs", "onnx", "int8", shown)
    assert json.loads((tmp_path / "graphs" / "captioner.json").read_text("utf-8"))["export"]["precision"] == "int8"
    sizes = [(one / "encoder.onnx").stat().st_size for one in (folder, tmp_path / "graphs")]
    assert sizes[1] < sizes[0] / 2
    exact, near = (load(one).features(images(4)).regions for one in (folder, tmp_path / "graphs"))
    assert 1e-4 < np.abs(exact - near).max() / np.abs(exact).max() < 0.3


@pytest.mark.slow
def test_bfloat16_is_the_encoder_alone(captioner, tmp_path):
    pytest.importorskip("openvino")
    captioner.export(tmp_path / "graphs", "openvino", "bfloat16")
    found, expected = (one.features(images(4)) for one in (load(tmp_path / "graphs"), captioner))
    np.testing.assert_allclose(found.regions, expected.regions, atol=0.05 * np.abs(expected.regions).max())
    likely = [one.caption_features(expected)[0].log_probability for one in (load(tmp_path / "graphs"), captioner)]
    assert likely[0] == pytest.approx(likely[1], abs=1e-4)


def test_a_manifest_names_nothing_outside_its_folder(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "beside").write_text("here")
    digests = json.loads((copied / MANIFEST).read_text("utf-8"))
    named = {"../beside": sha256_file(tmp_path / "beside")}
    (copied / MANIFEST).write_text(json.dumps({**digests, **named}), "utf-8")
    with pytest.raises(BundleError, match="beside: missing"):
        load(copied)


@pytest.mark.parametrize("scheme", [*SCHEMES, "0.5,0.4,0.3/0.25,0.5,0.125"])
def test_pixels_are_scaled_in_the_graph_as_they_are_outside(scheme):
    pixels = np.random.default_rng(0).random((2, 32, 32, 3), "float32")
    image = tiny().config.replace({"image.normalisation": scheme}).image
    expected = normalise(pixels, scheme)
    np.testing.assert_allclose(export._normalised(pixels, image), expected, rtol=1e-5, atol=1e-5)


def tiny_towers():
    """The Vision Transformers that are registered, each kind once and as small as can be."""
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 20}
    kinds: dict[str, list[str]] = {}
    for name, one in registry().items():
        if one.tower:
            tower = replace(tower_of(one.tower, name), **sizes, patch_size=8)
            kinds.setdefault(tower, []).append(name)
    return [pytest.param(tower, id=" ".join(names)) for tower, names in kinds.items()]


@pytest.mark.parametrize("tower", tiny_towers())
def test_every_kind_of_vision_transformer_is_exported(tower, tmp_path):
    model, rng = build_tower(tower, 32), np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.4, array.shape) for array in model.get_weights()])
    axes = {"images": ("float32", ("images", 32, 32, 3))}, {"maps": ("images", 4, 4, 12)}
    export.WRITERS["onnx"](export.Network(lambda given: {"maps": model(given["images"])}, *axes), tmp_path / "a.onnx")
    named, run = RUNTIMES["onnx"]["onnx"](tmp_path / "a.onnx", ["maps"], "float32")
    pixels = rng.normal(size=(3, 32, 32, 3)).astype("float32")
    assert named == [{"maps"}]
    found, expected = run({"images": pixels})[0], np.asarray(model(pixels))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_axes_have_names(folder):
    graphs = json.loads((folder / "captioner.json").read_text("utf-8"))["export"]["graphs"]
    assert graphs["encoder"]["inputs"] == {"images": ["float32", ["images", 32, 32, 3]]}
    assert graphs["step"]["outputs"]["logits"][0] == "rows"
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "step.onnx"))
    assert {one.name for one in session.get_inputs()} == set(graphs["step"]["inputs"])
    shared = {one.name for one in session.get_inputs() if one.shape[0] == "studies"}  # by the beams of a study
    assert shared == {"state.study.regions", "state.study.keys", "state.study.mask"}
    assert all(one.shape[0] == "rows" for one in session.get_inputs() if one.name not in shared)
    # What no step changes is not returned, and so not copied.
    assert {one.name for one in session.get_outputs()} == {"logits", "next.hidden", "next.attention"}


def test_what_differs_is_not_written(captioner, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_normalised", lambda images, image: images)
    with pytest.raises(BundleError, match=r"encoder differs from Keras' by .*nothing was written"):
        captioner.export(tmp_path / "graphs")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "altered since it was saved"),
        (lambda path: path.unlink(), "missing"),
    ],
)
def test_a_damaged_export_is_refused(folder, tmp_path, damage, said):
    copied = shutil.copytree(folder, tmp_path / "copy")
    damage(copied / "step.onnx")
    with pytest.raises(BundleError, match=rf"step\.onnx: {said}"):
        load(copied)


@pytest.mark.parametrize("opened", [load, open_captioner, find_export])
def test_a_mistyped_field_is_one_line(folder, tmp_path, opened):
    def mistype(aside):
        text = (aside / "captioner.json").read_text("utf-8")
        (aside / "captioner.json").write_text(text.replace('"format": "onnx"', '"format": "onxx"'), "utf-8")

    rewrite_bundle(shutil.copytree(folder, tmp_path / "copy"), mistype)
    with pytest.raises(BundleError, match=r"captioner\.json: Invalid enum value 'onxx' - at `\$\.export\.format`"):
        opened(tmp_path / "copy")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda graphs: graphs["step"]["outputs"].pop("logits"),
            r"step\.onnx: cannot be run \(its outputs are not those",
        ),
        (lambda graphs: graphs["encoder"].update(outputs={"map": []}), r"encoder\.onnx: cannot be run"),
        (lambda graphs: graphs.pop("classifier"), "has findings and no classifier"),
    ],
)
def test_a_description_of_other_graphs_is_refused(folder, tmp_path, change, said):
    """Without an output a state would never change, and the captions be others without a word."""

    def alter(aside):
        values = json.loads((aside / "captioner.json").read_text("utf-8"))
        change(values["export"]["graphs"])
        (aside / "captioner.json").write_text(json.dumps(values), "utf-8")

    rewrite_bundle(shutil.copytree(folder, tmp_path / "copy"), alter)
    with pytest.raises(BundleError, match=f"{said}.*; export the bundle again"):
        load(tmp_path / "copy")


def test_images_of_another_size_than_the_graph_takes_are_one_line(folder, tmp_path):
    def shrink(aside):
        values = json.loads((aside / "captioner.json").read_text("utf-8"))
        values["config"]["image"]["size"] //= 2
        (aside / "captioner.json").write_text(json.dumps(values), "utf-8")

    rewrite_bundle(shutil.copytree(folder, tmp_path / "copy"), shrink)
    with pytest.raises(BundleError, match=r"encoder\.onnx: cannot be run \(.*\); export the bundle again") as caught:
        load(tmp_path / "copy").caption([[np.eye(40)]])
    assert "\n" not in str(caught.value)


def test_keras_does_not_load_an_export(folder):
    with pytest.raises(BundleError, match="holds exported graphs"):
        Captioner.load(folder)


def test_an_export_is_used_where_it_is_of_the_bundle_as_it_is(captioner, folder, tmp_path):
    captioner.save(tmp_path)
    assert find_export(tmp_path) is None
    with pytest.raises(ConfigError, match="no export of its present state"):
        load(tmp_path)
    shutil.copytree(folder, tmp_path / "export")

    def name_the_bundle(aside):
        values = json.loads((aside / "captioner.json").read_text("utf-8"))
        values["export"]["bundle"] = sha256_file(tmp_path / MANIFEST)
        (aside / "captioner.json").write_text(json.dumps(values), "utf-8")

    rewrite_bundle(tmp_path / "export", name_the_bundle)
    assert find_export(tmp_path) == tmp_path / "export"
    assert not open_captioner(tmp_path).compiles
    assert open_captioner(tmp_path, "keras").compiles
    # Any change of the bundle changes its manifest.
    (tmp_path / MANIFEST).write_text((tmp_path / MANIFEST).read_text("utf-8") + "\n", "utf-8")
    assert find_export(tmp_path) is None
    assert open_captioner(tmp_path).compiles


def test_a_bundle_that_was_altered_is_not_run_by_its_export(tmp_path):
    copied = shutil.copytree(find_bundle("phantom_attention"), tmp_path / "copy")
    (copied / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: altered"):
        open_captioner(copied)


def test_a_captioner_of_features_is_not_exported(captioner, tmp_path):
    blind = Captioner(
        captioner.config.replace({"model.encoder": "features"}), captioner.encoder, captioner.model, captioner.tokenizer
    )
    with pytest.raises(ConfigError, match="sees no images"):
        blind.export(tmp_path / "graphs")
    captioner.save(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="holds a bundle"):
        captioner.export(tmp_path / "bundle")
    with pytest.raises(ConfigError, match="format is 'torch'"):
        captioner.export(tmp_path / "graphs", "torch")


def test_the_shipped_bundle_ships_its_export():
    bundle = find_bundle("phantom_attention")
    assert find_export(bundle) == bundle / "export"


def test_neither_keras_nor_tensorflow_is_loaded(folder, tmp_path):
    code = (
        "import sys, numpy as np\nfrom xray_captioning.runtime import load\n"
        f"captioner = load({str(folder)!r})\n"
        "image = np.random.default_rng(0).random((32, 32), 'float32')\n"
        "captioner.caption([[image, image.T]], 3), captioner.findings([[image]])\n"
        "import xray_captioning.batch.run, xray_captioning.serving.engine\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'sklearn', 'matplotlib', 'pandas', 'nltk'}\n"
        "print(*heavy & set(sys.modules))"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == []
    assert not list(tmp_path.iterdir())  # where onnxruntime keeps what it would report


@pytest.mark.slow
def test_the_command_writes_what_caption_reads(tmp_path, phantoms, capsys):
    from PIL import Image

    out, image = tmp_path / "graphs", tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), "uint8")).save(image)
    assert main(["export", "--out", str(out)]) == 0
    assert "the same as" in capsys.readouterr().out
    lines = {}
    for name, given in (("folder", ["--bundle", str(out)]), ("shipped", []), ("keras", ["--runtime", "keras"])):
        assert main(["caption", str(image), "--show-unfamiliar", "--beam", "1", *given]) == 0
        lines[name] = capsys.readouterr().out
    assert len(set(lines.values())) == 1
    assert main(["caption", str(image), "--runtime", "openvino", "--bundle", str(tmp_path)]) == 2
    assert "manifest.json" in capsys.readouterr().err


def test_features_are_not_touched(captioner, folder):
    """Arrays that are given are not written into."""
    features = captioner.features(images(2))
    before = [array.copy() for array in features]
    load(folder).caption_features(Features(*features), 3)
    for one, other in zip(features, before):
        np.testing.assert_array_equal(one, other)
