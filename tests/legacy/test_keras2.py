"""The older project's weights answer here what they answered there."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import xray_captioning as xc
from tests.legacy.keras2_files import SIZES, Older, decoder_layers, renamed, sigmoid, write
from xray_captioning.backend import keras, ops
from xray_captioning.checkpoints import StoredArray
from xray_captioning.cli import main
from xray_captioning.config import load_preset
from xray_captioning.data.images import read_images
from xray_captioning.decoders import Features
from xray_captioning.encoders import ENCODERS, Encoder
from xray_captioning.encoders.filling import densenet121_variables, match_densenet121
from xray_captioning.encoders.saved import new_encoder
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.findings import NIH14

pytestmark = pytest.mark.usefixtures("eagerly")

VOCABULARY = SIZES["vocabulary"]
NAMES = {"dense_3": "dense_11", "dense_2": "dense_10", "dense_1": "dense_9", "dense/": "dense_8/"}
NAMES |= {"onestep": "decoder/one__step__decoder/onestep", "gru_cell": "gru_cell_1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("legacy")


def few_layers(size, *_):
    """Stand for DenseNet121, whose 604 arrays take long: names like its own, the same map."""
    image = x = keras.layers.Input((size, size, 3))
    for name, channels, stride in (("conv1", 8, 32), ("conv2_block1_1", 1024, 1)):
        x = keras.layers.Conv2D(channels, stride, stride, use_bias=False, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.Model(image, keras.layers.ReLU()(keras.layers.BatchNormalization(name="bn")(x)))


@pytest.fixture(scope="module", autouse=True)
def _quick_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "chexnet", ENCODERS["chexnet"]._replace(build=few_layers))
        yield


@pytest.fixture(scope="module")
def network():
    """The network's random arrays by their Keras 2 names."""
    variables = densenet121_variables(Encoder("chexnet", 224))
    for variable in variables.values():
        if variable.shape[:-1] == ():
            variable.assign(np.random.default_rng(3).uniform(0.5, 1.5, variable.shape))
    return {name: ops.convert_to_numpy(variable) for name, variable in variables.items()}


@pytest.fixture(scope="module")
def layers(network):
    """A captioner of small widths."""
    others = decoder_layers()
    others["decoder"]["dense_3/bias"][[0, 3]] = -50  # nobody is taught to say padding or start
    return {"input_1": {}, "image_encoder": network, **others}


@pytest.fixture(scope="module")
def weights(folder, layers):
    return write(folder / "captioner.h5", renamed(layers, NAMES))


@pytest.fixture(scope="module")
def chexnet(folder, network):
    """CheXNet's layout: one layer of the file each layer of the network, and a dense one."""
    found = {"input_1": {}}
    for name, values in network.items():
        found.setdefault(name.rsplit("/", 1)[0], {})[name] = values
    rng = np.random.default_rng(0)
    top = {"kernel": rng.normal(0, 0.1, (1024, 14)), "bias": rng.normal(0, 0.1, 14)}
    found["predictions"] = {f"predictions/{n}": v.astype("float32") for n, v in top.items()}
    return write(folder / "chexnet.h5", found)


def tokenizer_pickle(path: Path, words: int) -> Path:
    listed = ["<unk>", ".", "<cls>", "<end>", *(f"w{i}" for i in range(5, words + 1))]
    content = {"format": "xray_captioning.tokenizer", "version": 1, "words": listed}
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return tokenizer_pickle(folder / "tokenizer.pkl", VOCABULARY - 1)


@pytest.fixture(scope="module")
def captioner(weights, tokenizer):
    return xc.legacy.load_attention_captioner(weights, tokenizer)


def test_a_tokenizer_with_other_marks(captioner, weights, folder):
    """The same weights write the same words; the marks of the tutorials never stay."""
    words = ["<unk>", ".", "startseq", "endseq", *captioner.tokenizer.words[4:]]
    index = {word: i for i, word in enumerate(words, 1)}
    content = {"class_name": "Tokenizer", "config": {"word_index": json.dumps(index)}}
    (folder / "keras.json").write_text(json.dumps(content))
    other = xc.legacy.load_attention_captioner(weights, folder / "keras.json")
    regions = np.random.default_rng(2).gamma(1, 1, (6, 18, 1024)).astype("float32")
    features = Features(regions, np.ones((6, 18), bool))
    wanted = [caption.words for caption in captioner.caption_features(features)]
    assert [caption.words for caption in other.caption_features(features)] == wanted
    with pytest.raises(DataError, match="has no word 'begin'"):
        xc.legacy.load_attention_captioner(weights, folder / "keras.json", "begin", "endseq")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    import cv2

    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 300, 260), np.uint8)
    paths = [str(folder / name) for name in ("a.png", "b.png")]
    for path, image in zip(paths, pixels):
        cv2.imwrite(path, cv2.GaussianBlur(image, (0, 0), 9) * 3)
    return paths


@pytest.mark.parametrize("chosen", [[0, 1], [1]], ids=["two views", "one"])
def test_captions_are_the_older_programs(captioner, layers, images, chosen):
    study = [images[i] for i in chosen]
    features = captioner.features([study])
    assert features.regions.shape == (1, 18, 1024)
    assert features.mask.all()
    tokens = Older(layers, features.regions[0]).greedy()
    (found,) = captioner.caption([study])
    assert found.words == [captioner.tokenizer.words[token - 1] for token in tokens]
    assert found.text == " ".join(found.words)
    assert len(found.words) > 3


def test_next_token_logits_are_the_older_programs(captioner, layers):
    regions = np.random.default_rng(2).normal(0, 1, (1, 18, 1024)).astype("float32")
    older = Older(layers, regions[0])
    state = captioner.model.start(Features(regions, np.ones((1, 18), bool)))
    for token in (3, 7, 0, 12, 2, 3, 29, 0, 0, 1):
        found, state = captioner.model.step(np.array([token], "int32"), state)
        np.testing.assert_allclose(found[0], older.step(token), atol=1e-4)


def test_padding_and_start_inside_captions(captioner, layers):
    bias = layers["decoder"]["dense_3/bias"].copy()
    bias[[0, 3, 23]] = 2.5, 1, 2.7  # words of all three kinds follow one another
    changed = {**layers, "decoder": {**layers["decoder"], "dense_3/bias": bias}}
    regions = np.random.default_rng(2).gamma(1, 1, (6, 18, 1024)).astype("float32")
    wanted = [Older(changed, row).greedy() for row in regions]
    assert {0, 3} <= {token for tokens in wanted for token in tokens}
    variable = captioner.model.decoder.logits.bias
    variable.assign(bias)
    found = captioner.caption_features(Features(regions, np.ones((6, 18), bool)))
    variable.assign(layers["decoder"]["dense_3/bias"])
    spelled = ["<unk>", *captioner.tokenizer.words]  # Keras spells padding so
    assert [caption.words for caption in found] == [[spelled[t] for t in row] for row in wanted]


def test_a_lone_image_is_seen_in_both_views(captioner, images):
    once, twice = captioner.features([[images[0]], [images[0], images[0]]]).regions
    np.testing.assert_array_equal(once, twice)


def test_pixels_are_nearest_neighbour_over_255(captioner, network, images):
    import cv2

    image = cv2.resize(cv2.imread(images[0]), (224, 224), interpolation=cv2.INTER_NEAREST)
    maps = ops.convert_to_numpy(captioner.encoder.backbone(np.float32(image)[None] / 255))
    pooled = maps[:, :6, :6].reshape(1, 3, 2, 3, 2, 1024).mean((2, 4)).reshape(9, 1024)
    found = captioner.features([[images[0]]]).regions[0, :9]
    assert np.abs(found - pooled).max() <= 1e-3 * np.abs(pooled).max()


def test_what_the_bundle_says_of_itself(captioner, weights, tmp_path):
    config = captioner.config
    image = {"size": 224, "resize": "nearest", "normalisation": "unit", "views": 2}
    assert image.items() <= config.to_dict()["image"].items()
    assert config.image.repeat_single_view
    assert (config.text.cleaning, config.text.prettify) == ("legacy", False)
    assert captioner.rules().maximum_length == 29
    assert captioner.rules().banned == ()
    assert (captioner.tokenizer.unknown_id, *captioner.rules()[:2]) == (1, 3, 4)
    widths = {name: getattr(config.model, name) for name in SIZES if name != "vocabulary"}
    assert {**widths, "vocabulary": captioner.tokenizer.vocabulary_size} == SIZES
    data = captioner.about["data"]
    assert data["weights"] == weights.name
    assert len(data["weights_sha256"]) == len(data["tokenizer_sha256"]) == 64
    assert data["preprocessing"].startswith("as published")
    assert not {"rows", "metrics"} & set(captioner.about)
    captioner.save(tmp_path / "bundle")
    again = xc.Captioner.load(tmp_path / "bundle")
    assert again.config == config
    for mine, same in zip(captioner.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, same)


def test_all_that_does_not_fit_is_in_one_line(folder, layers, tokenizer):
    decoder = dict(layers["decoder"])
    del decoder["global_attention/dense_1/bias"]
    decoder["odd/kernel"] = decoder["odd/gamma"] = np.zeros((2, 3), "float32")
    network = dict(layers["image_encoder"])
    del network["conv1/bn/gamma"]
    network["bn/beta"] = network["bn/beta"][:1000]
    changed = {**layers, "image_encoder": network, "decoder": decoder}
    with pytest.raises(BundleError) as caught:
        xc.legacy.load_attention_captioner(write(folder / "wrong.h5", changed), tokenizer)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder}/wrong.h5: does not fit the attention captioner: ")
    assert "image_encoder/conv1/bn/gamma of shape (8,) is missing, " in message
    assert "image_encoder/bn/beta has shape (1000,) instead of (1024,), and 3 more; " in message


@pytest.mark.parametrize(
    ("layers", "seems"),
    [
        ({"dense": ["dense/kernel", "dense/bias"], "dense_1": ["dense_1/kernel"]}, "2 layers (dense, dense_1)"),
        ({f"block{n}_conv{k}": ["kernel"] for n in range(1, 6) for k in range(1, 4)}, "15 layers (block1_conv1, "),
        ({"res5c_branch2c": ["kernel"], "lstm": ["lstm/recurrent_kernel"]}, "2 layers (res5c_branch2c, lstm)"),
        ({"a" * 400 + str(n): ["b" * 400] for n in range(9)}, "9 layers (aaa"),
    ],
)
def test_weights_of_another_model_are_named_in_a_short_line(tmp_path, layers, seems, tokenizer):
    arrays = {name: dict.fromkeys(inner, np.ones(3, "f4")) for name, inner in layers.items()}
    path = write(tmp_path / "w.h5", arrays)
    for load in (xc.legacy.load_chexnet, lambda file: xc.legacy.load_attention_captioner(file, tokenizer)):
        with pytest.raises(BundleError) as caught:
            load(path)
        message = str(caught.value).removeprefix(f"{path}: ")
        assert "\n" not in message
        assert len(message) <= 300
        if "holds" not in message:  # a captioner given without its tokenizer, or the other way
            assert f"another model, with weights of {seems}" in message
            assert "; give the file of " in message


def test_a_vocabulary_of_another_size(folder, weights):
    other = tokenizer_pickle(folder / "other.pkl", 40)
    with pytest.raises(BundleError, match=r"other\.pkl: has 41 .*captioner\.h5 .* 30; give"):
        xc.legacy.load_attention_captioner(weights, other)


def test_the_other_kind_of_file_is_named(weights, chexnet, tokenizer):
    with pytest.raises(BundleError, match=r"holds no decoder.*leave out the tokenizer"):
        xc.legacy.load_attention_captioner(chexnet, tokenizer)
    with pytest.raises(BundleError, match=r"a captioner with its decoder.*--tokenizer"):
        xc.legacy.load_chexnet(weights)


def test_chexnet(chexnet, network, tmp_path):
    encoder = xc.legacy.load_chexnet(chexnet)
    assert encoder.findings == NIH14
    assert encoder.grid == (7, 7)
    for name, variable in densenet121_variables(encoder).items():
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), network[name])
    other = new_encoder(load_preset("chexnet_attention"), str(chexnet), ["Edema"])
    assert other.findings == ("Edema",)
    pairs = zip(other.backbone.get_weights(), encoder.backbone.get_weights())
    assert all(np.array_equal(mine, same) for mine, same in pairs)


def test_whole_names_are_matched_never_their_ends(network):
    names = {name: StoredArray("image_encoder", name, v) for name, v in network.items()}

    def found(arrays):
        return {n: a.values for n, a in match_densenet121(arrays, network)[0].items()}

    def same(arrays, but=()):
        answer = found(arrays)
        assert set(answer) == set(network) - set(but)
        return all(answer[name] is network[name] for name in answer)

    assert same(names.values())
    assert same(reversed(list(names.values())))
    assert same(a._replace(name=f"image_encoder/densenet121/{n}") for n, a in names.items())
    assert same(a._replace(name=n.replace("conv1/", "conv1_")) for n, a in names.items())
    assert same(a._replace(name=n.replace("/bn/", "/bn_1/")) for n, a in names.items())
    alone = [a._replace(layer=n.rsplit("/", 1)[0]) for n, a in names.items()]
    assert same(alone)
    assert same(a._replace(name=f"scope_3/{a.name}") for a in alone)
    gone = [name for name in network if name.startswith("conv1/bn/")]
    assert same([a for n, a in names.items() if n not in gone], gone)
    gone = [name for name in network if name.startswith("bn/")]
    assert same([a for n, a in names.items() if n not in gone], gone)
    assert same([replace_layer(a, gone) for a in alone], gone)


def replace_layer(array, gone):
    name = f"{array.layer}/{array.leaf}"
    return array._replace(layer="other", name=f"other/{array.name}") if name in gone else array


@pytest.fixture(scope="module")
def chexnet_bundle(folder, chexnet):
    out = folder / "chexnet"
    line = ["--weights", str(chexnet), "--normalisation", "imagenet", "--out", str(out)]
    assert main(["import-legacy", *line]) == 0
    return out


def table(output):
    header, *rows = (line.split("\t") for line in output.splitlines())
    return header, rows


def unit_bundle(folder, chexnet):
    """Import as the older project used CheXNet, which is what happens unless one asks."""
    out = folder / "unit"
    assert main(["import-legacy", "--weights", str(chexnet), "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("normalisation", ["imagenet", "unit"])
def test_findings_of_an_encoder_bundle(normalisation, chexnet_bundle, chexnet, folder, images, capfd):
    published = normalisation == "imagenet"
    bundle = chexnet_bundle if published else unit_bundle(folder, chexnet)
    capfd.readouterr()
    assert main(["caption", *images, "--findings", "--bundle", str(bundle)]) == 0
    output, error = capfd.readouterr()
    header, rows = table(output)
    assert header == ["images", *NIH14]
    assert [row[0] for row in rows] == images
    assert published != ("--normalisation imagenet" in error)
    encoder = xc.legacy.load_chexnet(chexnet)
    mean, deviation = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if published else (0, 1)
    pixels = read_images(images, 224, "area" if published else "nearest")
    maps = encoder.backbone((pixels - np.float32(mean)) / np.float32(deviation))
    kernel, bias = map(ops.convert_to_numpy, encoder.classifier.weights)
    wanted = sigmoid(ops.convert_to_numpy(maps).mean((1, 2)) @ kernel + bias)
    np.testing.assert_allclose([list(map(float, row[1:])) for row in rows], wanted, atol=2e-6)


@pytest.fixture(scope="module")
def other_bundle(folder, captioner):
    """A captioner that import-legacy did not write, with an encoder that classifies."""
    encoder = Encoder("chexnet", 224, pool=2, findings=NIH14[:3])
    encoder.backbone.set_weights(captioner.encoder.backbone.get_weights())
    parts = (captioner.config, encoder, captioner.model, captioner.tokenizer)
    xc.Captioner(*parts).save(folder / "other")
    return folder / "other"


def test_findings_beside_captions(other_bundle, captioner, images, capfd):
    line = [",".join(images), images[1], "--bundle", str(other_bundle), "--findings"]
    capfd.readouterr()
    assert main(["caption", *line]) == 0
    header, rows = table(capfd.readouterr().out)
    assert header == ["images", "caption", *NIH14[:3]]
    studies = [images, images[1:]]
    captions = [caption.text for caption in captioner.caption(studies)]
    assert [row[:2] for row in rows] == [[line[0], captions[0]], [line[1], captions[1]]]
    chances = xc.Captioner.load(other_bundle).findings(studies)
    assert [list(map(float, row[2:])) for row in rows] == [
        pytest.approx(list(chance.values()), abs=1e-6) for chance in chances
    ]


def test_no_findings_is_one_sentence(captioner, images, tmp_path, capfd):
    captioner.save(tmp_path / "bundle")
    assert main(["caption", images[0], "--findings", "--bundle", str(tmp_path / "bundle")]) == 2
    error = capfd.readouterr().err
    assert "classifies no findings; leave out --findings" in error
    assert error.count("\n") == 1
    with pytest.raises(ConfigError, match="classifies no findings; use"):
        captioner.findings([images])


def test_an_import_is_a_bundle_and_may_be_repeated(weights, tokenizer, tmp_path, images, capfd):
    out = tmp_path / "bundle"
    line = ["import-legacy", "--weights", str(weights), "--tokenizer", str(tokenizer)]
    assert main([*line, "--out", str(out)]) == 0
    digests = (out / "manifest.json").read_bytes()
    assert main([*line, "--out", str(out)]) == 0
    assert set(json.loads(digests)) | {"manifest.json"} == {p.name for p in out.iterdir()}
    capfd.readouterr()
    assert main(["caption", images[0], "--bundle", str(out)]) == 0
    name, text = capfd.readouterr().out.rstrip("\n").split("\t")
    assert name == images[0]
    assert set(text.split()) <= set(xc.Tokenizer.from_pickle(tokenizer).words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--weights {weights} --out {out}", "with its decoder; --tokenizer"),
        ("--weights {chexnet} --tokenizer {tokenizer} --out {out}", "leave out the tokenizer"),
        ("--weights {tokenizer} --out {out}", "not an HDF5 file; again"),
        ("--weights {weights} --tokenizer {weights} --out {out}", "captioner.h5"),
        ("--weights {weights} --tokenizer {tokenizer} --out {full}", "not empty; another --out"),
        ("--weights {weights} --tokenizer {tokenizer} --out {bundle}", "not empty; another --out"),
        ("--weights {weights} --tokenizer {tokenizer} --out {other}", "not empty; another --out"),
        (
            "--weights {weights} --tokenizer {tokenizer} --out {out} --normalisation unit",
            "--normalisation; leave it out",
        ),
    ],
)
def test_refused_imports_leave_nothing(
    options, words, weights, chexnet, tokenizer, chexnet_bundle, other_bundle, tmp_path, capfd
):
    full, out = tmp_path / "full", tmp_path / "out"
    full.mkdir()
    (full / "notes.txt").write_text("mine")
    places = {"weights": weights, "chexnet": chexnet, "tokenizer": tokenizer, "full": full}
    places |= {"out": out, "bundle": chexnet_bundle, "other": other_bundle}
    before = [snapshot(folder) for folder in (full, chexnet_bundle, other_bundle)]
    capfd.readouterr()
    assert main(["import-legacy", *(word.format(**places) for word in options.split())]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert all(word in error for word in words.split("; "))
    assert not out.exists()
    assert [snapshot(folder) for folder in (full, chexnet_bundle, other_bundle)] == before


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path.name: path.stat() for path in folder.rglob("*")}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def test_a_truncated_download(weights, tokenizer, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes(weights.read_bytes())
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(BundleError, match=r"cut\.h5: truncated or damaged HDF5 .*; download"):
        xc.legacy.load_attention_captioner(path, tokenizer)
