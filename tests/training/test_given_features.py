"""Training on features as data: the same as on images, joined by id, and honest about images."""

import csv
import json
import shutil

import numpy as np
import pytest

from xray_captioning.bundles.bundle import identity
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.comparison.evaluate import evaluate
from xray_captioning.data.feature_files import open_features
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.decoders import Features
from xray_captioning.decoders.model import DECODERS, new_model
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.encoding import GivenFeatures
from xray_captioning.encoders.saved import weights_digest
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.evaluation.matching import features_of
from xray_captioning.text.tokenizer import Tokenizer
from xray_captioning.training.captions import train

pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture(scope="module")
def studies(phantoms):
    return read_studies(phantoms)


@pytest.fixture(scope="module")
def encoded(phantoms, tiny_encoder_run, tmp_path_factory):
    """Features of the phantoms, as the command writes them."""
    out = tmp_path_factory.mktemp("encoded") / "f.npz"
    asked = ["--encoder", "phantom_cnn", "--weights", str(tiny_encoder_run), "--out", str(out)]
    assert main(["encode", "--data", str(phantoms), *asked]) == 0
    return out


@pytest.fixture(scope="module")
def others(studies):
    """Made-up features of another program: (studies, regions, channels), float16, and ids."""
    rng = np.random.default_rng(0)
    return list(studies["study_id"]), rng.normal(size=(len(studies), 9, 12)).astype("float16")


@pytest.fixture(scope="module")
def short(tiny_config):
    return tiny_config.replace({"training.epochs": 1})


@pytest.fixture(scope="module")
def blind(studies, short, others, tmp_path_factory):
    """Run folder of a captioner that was trained on the features of another program."""
    out = tmp_path_factory.mktemp("blind") / "run"
    train(studies, short, out, features=others, measured=False)
    return out


def copy_of(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def test_a_run_on_encoded_features_is_the_run_on_the_images(
    studies, encoded, tiny_config, tiny_run, tiny_cache, tmp_path
):
    out = tmp_path / "run"
    captioner = train(studies, tiny_config, out, features=encoded, measured=False)
    for name in ("log.csv", "split.json"):
        rows = [list(csv.reader((run / name).open())) for run in (out, tiny_run)]
        assert rows[0][0] == rows[1][0]
    losses = [np.loadtxt(run / "log.csv", delimiter=",", skiprows=1) for run in (out, tiny_run)]
    np.testing.assert_allclose(*(rows[:, :-1] for rows in losses), rtol=1e-4)  # not the seconds
    # It has the encoder, with its record and classifier, and so it captions images, too.
    known = Captioner.load(tiny_run)
    assert weights_digest(captioner.encoder) == weights_digest(known.encoder)
    assert captioner.config.image == known.config.image
    assert captioner.trained_on == known.trained_on
    images = studies["images"].tolist()[:3]
    texts = [[c.text for c in model.caption(images)] for model in (captioner, Captioner.load(out))]
    assert texts[0] == texts[1]
    # Evaluated on features it scores what it scores on images.
    options = {"beams": [1], "quick": True, "cache": tiny_cache}
    found = [evaluate(studies, {"run": out}, tmp_path / "a", features=encoded, **options)]
    found.append(evaluate(studies, {"run": out}, tmp_path / "b", **options))
    assert found[0] == found[1]


def test_what_encode_writes_says_what_made_it(encoded, tiny_encoder_run):
    about = open_features(encoded).about
    assert about.encoder == "phantom_cnn"
    assert about.weights_sha256 == weights_digest(Encoder.load(tiny_encoder_run).backbone)
    # The pixels are the bundle's, not those of the encoder's published weights.
    assert about.image == {"size": 64, "resize": "area", "normalisation": "unit"}
    assert TrainedOn.from_dict(about.trained_on) == Encoder.load(tiny_encoder_run).trained_on


def test_a_captioner_of_features_alone_says_so_and_refuses_images(blind, studies, others, capsys):
    values = json.loads((blind / "captioner.json").read_text())
    assert values["needs"] == {"features": {"channels": 12}}
    assert values["config"]["model"]["encoder"] == "features"
    assert not (blind / "encoder.weights.h5").exists()
    assert "it needs features, 3 x 3 regions of 12 numbers" in (blind / "README.md").read_text()
    captioner = Captioner.load(blind)
    given = features_of(others, studies)
    found = captioner.caption_features(Features(*given.read(np.arange(3))))
    assert found[0].attention is None or found[0].attention.shape[1:] == (1, 3, 3)
    for refused in (captioner.caption, captioner.features, captioner.findings):
        with pytest.raises(ConfigError, match="sees no images"):
            refused([["a.png"]])
    with pytest.raises(BundleError, match="sees no images"):
        Encoder.load(blind)
    for command in ("caption --bundle {0} " + __file__, "serve --bundle {0}"):
        assert main(command.format(blind).split()) == 2
        assert "sees no images; give features (--features)" in capsys.readouterr().err


def test_evaluation_reads_features_in_the_place_of_images(blind, studies, others, tmp_path):
    ids, regions = others
    turned = (ids[::-1], regions[::-1])  # joined by id, in any order
    without = studies.assign(images=[[]] * len(studies), views=[[]] * len(studies))
    rows = [
        evaluate(table, {"mine": blind}, tmp_path, features=features, beams=[1], quick=True)
        for table, features in ((studies, others), (without, turned))
    ]
    assert rows[0] == rows[1]
    assert [row["system"] for row in rows[0]][-1] == "retrieval"
    for given in (blind, Captioner.load(blind)):
        with pytest.raises(ConfigError, match="mine: was trained on features and sees no images"):
            evaluate(studies, {"mine": given}, tmp_path)
    with pytest.raises(ConfigError, match=r"1 x 2 x 2 x 12 .* but 1 x 3 x 3 x 12 are needed"):
        evaluate(studies, {"mine": blind}, tmp_path, features=(ids, regions[:, :4]))
    texts = {"theirs": dict.fromkeys(ids, "normal .")}
    with pytest.raises(ConfigError, match="no system was trained on features"):
        evaluate(studies, texts, tmp_path, features=others)


def test_captions_of_features_are_a_table(blind, others, tmp_path, capsys):
    ids, regions = others
    np.savez(tmp_path / "f.npz", ids=ids, x=regions)
    asked = ["caption", "--bundle", str(blind), "--features", str(tmp_path / "f.npz")]
    assert main([*asked, "--out", str(tmp_path / "c.csv")]) == 0
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["study"] for row in rows] == ids
    assert not any(row["error"] for row in rows)
    assert main(asked) == 2
    assert "give --out" in capsys.readouterr().err


def test_ids_are_joined_however_they_are_written(studies):
    names = [f"{number:04d}" for number in range(1, len(studies) + 1)]
    table = studies.assign(study_id=[str(int(name)) for name in names])
    regions = np.arange(len(names), dtype="float32")[:, None, None]
    for ids in (names, list(map(int, names)), [f"s{name}" for name in names]):
        given = features_of((ids, regions), table)
        np.testing.assert_array_equal(given.of(table["study_id"]), np.arange(len(names)))
    images = [paths[0].rsplit("/", 1)[1] for paths in studies["images"]]
    assert features_of((images, regions), table).of(["3"]).tolist() == [2]


def test_features_of_other_studies_are_refused_in_one_line(studies, short, others, tmp_path):
    ids, regions = others
    out, wrong = tmp_path / "run", np.where(np.arange(len(ids)) == 5, np.inf, 1)[:, None, None]
    refusals = [
        ((ids[:-2], regions[:-2]), rf"no features of 2 of 24 studies, such as {ids[-2]}, {ids[-1]}"),
        ((ids[:-1] + ids[:1], regions), rf"has 1 studies twice, such as {ids[0]}"),
        (([f"x{name}y" for name in ids], regions), "none of its 24 ids, such as x9"),
        ((ids, regions * wrong.astype("float16")), f"features of study {ids[5]} hold NaN"),
    ]
    for features, message in refusals:
        with pytest.raises(DataError, match=message) as found:
            train(studies, short, out, features=features)
        assert "\n" not in str(found.value)
        assert not out.exists() or not any(out.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.encoder_learning_rate": 1e-4}, "training.encoder_learning_rate needs images"),
        ({"text.view_prefix": True}, "text.view_prefix needs images"),
    ],
)
def test_what_needs_images_is_refused(changes, message, studies, short, others, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(studies, short.replace(changes), tmp_path / "run", features=others)


def test_an_encoder_with_other_weights_is_not_that_of_the_features(studies, short, encoded, tiny_encoder_run, tmp_path):
    other = Encoder("phantom_cnn", 64)
    with pytest.raises(ConfigError, match="made with other weights"):
        train(studies, short, tmp_path / "run", other, features=encoded)


def test_what_made_the_features_was_not_trained_on_their_tests(
    studies, short, encoded, tiny_encoder_run, others, blind, tmp_path
):
    trained = Split.from_json(tiny_encoder_run / "split.json")
    turned = Split(trained.test, trained.val, trained.train)
    with pytest.raises(ConfigError, match=r"f\.npz: was trained on 12 of the test studies"):
        train(studies, short, tmp_path / "run", features=encoded, split=turned)
    own = Split.from_json(blind / "split.json")
    turned = Split(own.test, own.val, own.train)
    texts = studies.assign(images=[[]] * len(studies), views=[[]] * len(studies))
    with pytest.raises(ConfigError, match="was trained on"):
        evaluate(texts, {"mine": blind}, tmp_path, features=others, split=turned)


def test_a_run_goes_on_with_the_same_features_only(blind, studies, short, others, tmp_path):
    run, (ids, regions) = copy_of(blind, tmp_path), others
    assert train(studies, short, run, features=others, resume=True, measured=False)
    with pytest.raises(ConfigError, match="started with other weights"):
        train(studies, short, run, features=(ids, regions + np.float16(1)), resume=True)


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 1, 10)])
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_takes_them(decoder, shape, tiny_config):
    changes = {"model.decoder": decoder, "image.views": shape[0], "model.heads": 2}
    config = tiny_config.replace(changes)
    tokenizer = Tokenizer.fit(["no acute disease ."], 1)
    model = new_model(config, GivenFeatures(shape[1:], 6), tokenizer)
    regions, mask = np.ones((2, np.prod(shape), 6), "float16"), np.ones((2, np.prod(shape)), bool)
    tokens = np.array([[1, 2, 3], [1, 2, 0]], "int32")
    logits = model({"regions": regions, "mask": mask, "tokens": tokens})
    assert np.isfinite(np.asarray(logits)).all()


def test_calibrate_reads_features(blind, phantoms, others, tmp_path, capsys):
    run, (ids, regions) = copy_of(blind, tmp_path), others
    np.savez(tmp_path / "f.npz", ids=ids, regions=regions)
    asked = ["calibrate", "--bundle", str(run), "--data", str(phantoms), "--beam", "1"]
    assert main(asked) == 2
    assert "sees no images" in capsys.readouterr().err
    asked += ["--features", str(tmp_path / "f.npz"), "--allow-worse"]
    code, said = main(asked), capsys.readouterr()
    assert code == 0 or "more probable ones are not right more often" in said.err


def test_the_command_needs_texts_and_no_images(short, others, tmp_path, capsys):
    ids, regions = others
    table = tmp_path / "texts.csv"
    rows = [f"{name},{'no acute disease .' if i % 2 else 'small effusion .'}" for i, name in enumerate(ids)]
    table.write_text("\n".join(["study_id,report", *rows]))
    np.save(tmp_path / "f.npy", regions)
    (tmp_path / "f.txt").write_text("\n".join(ids))
    fields = {name: value for name, value in short.flat().items() if name.startswith("model.")}
    fields = {n: v for n, v in fields.items() if n in ("model.head", "model.units")}
    sets = [part for name, value in fields.items() for part in ("--set", f"{name}={value}")]
    sets += ["--set", "training.epochs=1", "--preset", "phantom_attention"]
    out = ["--features", str(tmp_path / "f.npy"), "--out", str(tmp_path / "run")]
    assert main(["train", "--data", str(table), *out, "--name", "words@0.2", *sets]) == 0
    own = identity(tmp_path / "run")
    assert own[:2] == ("words", "0.2")
    assert "# words (captioner)" in (tmp_path / "run" / "README.md").read_text("utf-8")
    said = capsys.readouterr().out
    assert "24 of 24 studies have features and a text" in said
    assert f"caption --bundle {tmp_path / 'run'} --features FILE" in said
    assert main(["train", "--data", str(table), "--out", str(tmp_path / "other"), *sets]) == 2
    assert "lacks a column for image" in capsys.readouterr().err
