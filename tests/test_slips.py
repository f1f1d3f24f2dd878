"""What people give by mistake works, or one line says what to write: over every public name."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import xray_captioning as xc
from tests.captioner.test_context import tiny
from xray_captioning.backend import ops
from xray_captioning.errors import XrayCaptioningError

pytestmark = pytest.mark.usefixtures("eagerly")
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)  # as large as the model sees them
TEXTS = ["no effusion .", "edema ."]
RESULTS = {"Caption", "Decoder"}  # nobody calls these: one is returned, the other derived from


@pytest.fixture(scope="module")
def captioner():
    return tiny()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "one.png"
    Image.fromarray(PIXELS).save(path)
    return path


def no_studies(image, table):
    """Yield what is not the images of each study, but near it."""
    yield from (
        str(image),
        image,
        image.read_bytes(),
        Image.open(image),
        PIXELS,
        PIXELS / 255,
        ops.convert_to_tensor(PIXELS),
    )
    yield from (
        [str(image)],
        [image],
        [Image.open(image)],
        [PIXELS],
        np.stack([PIXELS, PIXELS]),
        (str(image), str(image)),
    )
    yield from ([[PIXELS.astype("float32")]], [[ops.convert_to_tensor(PIXELS)]], [[3]], [[f"{image},{image}"]])
    yield from (table, table.iloc[0], {"1": [image]}, None, 3, [None], [[]], [[None]])


def studies_of(image):
    """Yield the same study in ways that work."""
    yield from ([[str(image)]], [[image]], ((image,),), [[image.read_bytes()]], [[Image.open(image)]], [[PIXELS]])
    yield from ([[PIXELS / 255]], [[PIXELS[..., None]]], pd.Series([[str(image)]]), pd.Series([[image]]).to_numpy())


def near_misses(captioner, image, table, tmp_path):
    """Return for each public name calls that are wrong."""
    config, out, texts = xc.Config(), tmp_path / "out", dict.fromkeys(table["study_id"], "clear .")
    caption, few, rows = [[str(image)]], table[["study_id"]], table.to_dict("records")
    no_text = (TEXTS, pd.Series(TEXTS), None, float("nan"), b"clear", table, Path("a.txt"))
    no_table = ([str(image)], str(image), rows, few, table["images"], table.iloc[0], None)

    def calls(call, *given):
        return [lambda one=one: call(one) for one in given]

    return {
        "Captioner": [
            *(
                call
                for method in ("caption", "features", "findings")
                for call in calls(getattr(captioner, method), *no_studies(image, table))
            ),
            *calls(lambda given: list(captioner.caption_iter(given)), *no_studies(image, table)),
            *calls(captioner.caption_features, captioner.features(caption).regions, "f.npz", caption),
            *calls(
                lambda views: captioner.caption(caption, views=views), "frontal", ["front"], [["frontal", "lateral"]]
            ),
            *calls(lambda size: captioner.caption(caption, size), "3", 2.5, 0),
            *calls(xc.Captioner.load, captioner, None, [str(image)], "nowhere", Path("nowhere"), image),
            lambda: captioner.caption(caption, context="cough"),
            lambda: captioner.push_to_hub("me/mine"),
            lambda: captioner.export(out, "onxx"),
        ],
        "Config": [
            *calls(
                config.replace,
                "training.epochs=3",
                ["training.epochs=3"],
                None,
                {"training.epoch": 3},
                {"text.context": "prior"},
            ),
            *calls(xc.Config.from_dict, "training", None, ["training"]),
        ],
        "Encoder": [
            *calls(xc.Encoder.load, None, ["phantom_attention"], "nowhere"),
            lambda: xc.Encoder("resnet51", 64),
            lambda: xc.Encoder("phantom_cnn", 64, findings="Edema"),
        ],
        "Tokenizer": [
            *calls(xc.Tokenizer.fit, TEXTS[0], table, dict(enumerate(TEXTS)), [TEXTS], [float("nan")]),
            *calls(xc.Tokenizer.fit(TEXTS).encode, TEXTS, None, 3),
            *calls(lambda texts: xc.Tokenizer.fit(TEXTS).encode_batch(texts, 5), TEXTS[0], table, [TEXTS]),
            *calls(xc.Tokenizer.from_pickle, tmp_path / "no.pkl", str(tmp_path / "no.pkl")),
        ],
        "clean": [*calls(lambda text: xc.clean(text, "plain"), *no_text), lambda: xc.clean("clear", "nltk")],
        "deletion_curves": [
            *calls(
                lambda study: xc.deletion_curves(captioner, study, "Edema"),
                str(image),
                image,
                Image.open(image),
                PIXELS,
                caption,
                table,
            ),
            *calls(lambda finding: xc.deletion_curves(captioner, [image], finding), "edema", "Oedema"),
            lambda: xc.deletion_curves(captioner, [image], "Edema", method="gradcam"),
        ],
        "evaluate": [
            *calls(lambda studies: xc.evaluate(studies, {"a": texts}, out), *no_table),
            *calls(
                lambda given: xc.evaluate(table, given, out),
                captioner,
                "phantom_attention",
                ["phantom_attention"],
                None,
                table,
            ),
            *calls(lambda one: xc.evaluate(table, {"a": one}, out), table, None, 3, "nowhere"),
            *calls(lambda beams: xc.evaluate(table, {"a": texts}, out, beams=beams), 3, "3", []),
            *calls(lambda names: xc.evaluate(table, {"a": texts}, out, metrics=names), "radgraf", ["radgraf"]),
            *calls(
                lambda changes: xc.evaluate(table, {"a": texts}, out, changes=changes),
                "text.section=report",
                {"text.sektion": "report"},
            ),
            *calls(lambda split: xc.evaluate(table, {"a": texts}, out, split=split), {"test": []}, "no.json", few),
            lambda: xc.evaluate(table, {"a": texts}, out, part="tst"),
            lambda: xc.evaluate(table, {"a": texts}, out, convention="chexbert"),
            lambda: xc.evaluate(table, {"a": texts}, out, report=tmp_path / "x.tex"),
        ],
        "explain_report": calls(xc.explain_report, *no_text),
        "label_report": [*calls(xc.label_report, *no_text), lambda: xc.label_report("clear", "chexbert")],
        "legacy": calls(xc.legacy.impression_table, "nowhere", Path("nowhere"), image.parent),
        "load_preset": calls(xc.load_preset, None, "best", Path("best"), tmp_path / "mine.json"),
        "read_studies": [
            *calls(xc.read_studies, table, [str(image)], None, 3, "nowhere", image),
            *calls(lambda folder: xc.read_studies(tmp_path, folder), [str(tmp_path)], 3),
            *calls(lambda columns: xc.read_studies(tmp_path, columns=columns), "image=file", ["image"]),
            lambda: xc.read_studies(tmp_path, source="kagle"),
        ],
        "register_decoder": [
            lambda: xc.register_decoder("own", 3),
            lambda: xc.register_decoder("own", xc.Decoder, fields="units"),
        ],
        "register_encoder": [
            *calls(lambda build: xc.register_encoder("own", build), 3, captioner.encoder.backbone),
            lambda: xc.register_encoder("own", lambda size, published: None, last_block="conv5"),
            lambda: xc.register_encoder("own", lambda size, published: None, pooling="max"),
        ],
        "runtime": calls(xc.runtime.load, None, captioner, "nowhere", ["phantom_attention"]),
        "score": [
            *calls(
                lambda given: xc.score(given, given), TEXTS[0], table, None, set(TEXTS), Path("a.txt"), [float("nan")]
            ),
            lambda: xc.score(TEXTS, TEXTS[:1]),
            lambda: xc.score(pd.Series(TEXTS), pd.Series(TEXTS, index=[5, 6])),
            lambda: xc.score(TEXTS, TEXTS, "bleu"),
        ],
        "split_report": calls(xc.split_report, *no_text),
        "split_studies": [
            *calls(xc.split_studies, *no_table),
            *calls(lambda given: xc.split_studies(table, given), "0.8", 0.8, (0.8, 0.2), np.array([0.8, 0.1, 0.2])),
            lambda: xc.split_studies(table, by="patient"),
        ],
        "train": [
            *calls(lambda studies: xc.train(studies, config, out, weights="random"), *no_table),
            *calls(lambda given: xc.train(table, given, out), "phantom_attention", {}, None),
            *calls(lambda encoder: xc.train(table, config, out, encoder), "resnet50", captioner, 3),
            *calls(lambda split: xc.train(table, config, out, weights="random", split=split), {"test": []}, "no.json"),
            lambda: xc.train(table, config, out, weights="imagnet"),
            lambda: xc.train(table, config.replace({"model.decoder": "gruu"}), out, weights="random"),
            lambda: xc.train(table, config.replace({"model.encoder": "resnet51"}), out, weights="random"),
            lambda: xc.train(table, config, out, features=np.zeros((2, 3, 4))),
        ],
        "train_encoder": [
            *calls(lambda studies: xc.train_encoder(studies, config, out, "random"), *no_table),
            *calls(lambda given: xc.train_encoder(table, given, out), "phantom_attention", {}, None),
            *calls(lambda weights: xc.train_encoder(table, config, out, weights), "imagnet", captioner.encoder, 3),
            lambda: xc.train_encoder(table, config.replace({"model.encoder": "resnet51"}), out, "random"),
        ],
        "write_phantoms": [
            lambda: xc.write_phantoms(str(out), studies=0),
            lambda: xc.write_phantoms(out, studies=1, difficulty="medium"),
        ],
    }


def test_every_public_name_says_what_to_write(captioner, image, phantoms, tmp_path, monkeypatch):
    table = xc.read_studies(phantoms)
    monkeypatch.chdir(tmp_path)
    wrong = near_misses(captioner, image, table, tmp_path)
    assert {*wrong, *RESULTS} == {*xc.__all__}
    unsaid = []
    for name, calls in wrong.items():
        for number, call in enumerate(calls):
            try:
                unsaid.append(f"{name} {number}: returned {call()!r:.200}")
            except XrayCaptioningError as error:
                if not re.search("[;:] |expected|give|choose|write", str(error)):
                    unsaid.append(f"{name} {number}: does not say what to do: {error}")
            except Exception as error:  # of any kind, which is the point
                unsaid.append(f"{name} {number}: {type(error).__name__} {error!s:.200}")
    assert not unsaid, "\n".join(unsaid)
    assert not (tmp_path / "out").exists()


def test_usual_ways_to_give_a_study_are_the_same(captioner, image):
    expected = captioner.features([[image]]).regions
    for given in studies_of(image):
        np.testing.assert_allclose(captioner.features(given).regions, expected, atol=1e-5)
        assert len(captioner.caption(given, 1)) == 1


def test_paths_and_columns_of_any_kind_work(phantoms, tmp_path):
    table = xc.read_studies(str(phantoms))
    assert table.equals(xc.read_studies(Path(phantoms)))
    assert xc.split_studies(table, np.array([0.8, 0.1, 0.1])) == xc.split_studies(table, [0.8, 0.1, 0.1])
    (tmp_path / "mine.json").write_text('{"training": {"epochs": 3}}')
    assert xc.load_preset(tmp_path / "mine.json").training.epochs == 3
    assert xc.write_phantoms(str(tmp_path / "phantoms"), studies=1, size=64).is_dir()
    for texts in (TEXTS, tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS, index=[4, 2]), iter(TEXTS)):
        assert xc.Tokenizer.fit(texts) == xc.Tokenizer.fit(TEXTS)
    for texts in (tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS, index=[4, 2]), dict(enumerate(TEXTS))):
        assert xc.score(texts, texts) == xc.score(TEXTS, TEXTS)
    assert xc.label_report(np.str_("Edema.")) == xc.label_report("Edema.")
