"""The indication and the prior report on their way from tables, commands and forms into captions, and nowhere else."""

import csv
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.comparison.evaluate import evaluate
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.data.targets import context_texts, contexts, study_images, usable_studies
from xray_captioning.encoders import Encoder
from xray_captioning.errors import ConfigError, DataError
from xray_captioning.training.captions import train

pytestmark = pytest.mark.usefixtures("eagerly")
MARK = "Zelda Quux coughs"  # of a patient: in no message, log, table or bundle


@pytest.fixture(scope="module")
def studies(phantoms, tiny_run):
    """The phantoms as studies of two patients in each part of the split, day after day."""
    found, split = read_studies(phantoms), Split.from_json(tiny_run / "split.json")
    parts = {study: part for part, ids in split.parts.items() for study in ids}
    patients = [f"{parts.get(study)} {number % 2}" for number, study in enumerate(found["study_id"])]
    return found.assign(patient_id=patients, date=[str(number) for number in range(len(found))], prior=None)


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config.replace({"text.context": ["indication", "prior"], "training.epochs": 1})


@pytest.fixture(scope="module")
def run(studies, config, tiny_encoder_run, tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("told") / "run"
    train(studies, config, out, Encoder.load(tiny_encoder_run), cache=tiny_cache, measured=False)
    captioner = Captioner.load(out)  # after an epoch it would heed little
    captioner.model.texts.project.kernel.assign(40 * captioner.model.texts.project.kernel)
    captioner.save(out)
    return out


def test_training_learns_from_the_texts_and_knows_their_words(run, studies, config):
    captioner = Captioner.load(run)
    assert captioner.config.text.context == ("indication", "prior")
    assert "; reads beside the images: indication, prior\n" in (run / "README.md").read_text()
    usable = usable_studies(studies, config)
    train = usable[usable["study_id"].isin(captioner.split.train)]
    words = " ".join(context_texts(contexts(train, config), config)).split()
    assert set(words) <= {*captioner.tokenizer.words}
    told = contexts(usable, config)
    assert sum(one["prior"] is not None for one in told) > len(studies) / 2
    kernel = np.asarray(captioner.model.texts.project.kernel)
    assert np.isfinite(kernel).all()
    assert np.abs(np.asarray(captioner.model.texts.embedding.embeddings)).max() > 0.05  # beyond where it began


def test_a_source_without_texts_is_refused(studies, config, tiny_encoder_run, tiny_cache, tmp_path):
    alone = studies.assign(date="")
    with pytest.raises(DataError, match=r"^text\.context: no study of the training part has a text for prior; "):
        train(alone, config, tmp_path / "run", Encoder.load(tiny_encoder_run), cache=tiny_cache, measured=False)
    assert not (tmp_path / "run").exists()


def test_a_run_starts_from_a_bundle_that_reads_the_same(run, studies, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=r"text\.context is \['indication', 'prior'\] there, but this run asks for"):
        train(studies, tiny_config, tmp_path / "other", start_from=run, measured=False)


def test_evaluation_says_what_comes_from_text_alone(run, studies, tiny_cache, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        split = Captioner.load(run).split
        page = tmp_path / "page.html"
        systems = {"plain": dict.fromkeys(studies["study_id"], "normal chest ."), "mine": run}
        rows = evaluate(studies, systems, tmp_path, split=split, beams=[1], cache=tiny_cache, report=page)
    names = ["mine (without context)", "mine (context of others)", "mine (without image)"]
    assert [row["system"] for row in rows if row["system"].startswith("mine (")] == names
    with open(tmp_path / "captions.csv", newline="") as file:
        table = list(csv.DictReader(file))
    for name in names:
        assert [row["mine greedy"] for row in table] != [row[f"{name} greedy"] for row in table], name
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert {f"{name} greedy" for name in names} <= set(found["intervals"])
    assert not {row["system"] for row in found["differences"]} & {f"{name} greedy" for name in names}
    assert "without it, with another study" in page.read_text()
    captioner, usable = Captioner.load(run), usable_studies(studies, Captioner.load(run).config)
    test = usable[usable["study_id"].isin(split.test)]
    images = study_images(test, captioner.config)
    own = captioner.caption(images, 1, context=contexts(test, captioner.config))
    assert [row["mine greedy"] for row in table] == [" ".join(caption.words) for caption in own]
    assert [row[f"{names[0]} greedy"] for row in table] == [" ".join(c.words) for c in captioner.caption(images, 1)]


def lines(capfd):
    output, error = capfd.readouterr()
    return [line.split("\t")[-1] for line in output.splitlines()], error


def test_commands_read_it_of_options_and_of_tables(run, studies, phantoms, tmp_path, capfd):
    captioner, image = Captioner.load(run), studies["images"][0][0]
    [expected] = captioner.caption([[image]], context=[{"indication": MARK, "prior": "Clear lungs."}])
    asked = ["--bundle", str(run), "--show-unfamiliar"]
    assert main(["caption", image, *asked, "--indication", MARK, "--prior", "Clear lungs."]) == 0
    assert lines(capfd)[0] == [expected.text]
    assert main(["caption", "--data", str(phantoms), *asked, "--out", str(tmp_path / "t.jsonl")]) == 0
    written = (tmp_path / "t.jsonl").read_text()
    usable = usable_studies(read_studies(phantoms), captioner.config)
    told = contexts(usable, captioner.config)
    expected = captioner.caption(study_images(usable, captioner.config), context=told)
    by_study = {row["study"]: row["caption"] for row in map(json.loads, written.splitlines())}
    assert [by_study[study] for study in usable["study_id"]] == [caption.text for caption in expected]
    assert not [one["indication"] for one in told if one["indication"] in written]


def test_features_are_captioned_with_the_texts_of_a_table(run, phantoms, tmp_path, capfd):
    captioner, source = Captioner.load(run), read_studies(phantoms)
    usable = usable_studies(source, captioner.config)
    grid = (len(usable), captioner.config.image.views, *captioner.encoder.grid, -1)
    features = captioner.features(study_images(usable, captioner.config))
    ids = [f"s{name}" for name in usable["study_id"]]
    np.savez(tmp_path / "f.npz", ids=ids, regions=features.regions.reshape(grid))
    asked = ["caption", "--bundle", str(run), "--features", str(tmp_path / "f.npz"), "--show-unfamiliar"]
    assert main([*asked, "--data", str(phantoms), "--out", str(tmp_path / "told.jsonl")]) == 0
    assert main([*asked, "--out", str(tmp_path / "untold.jsonl")]) == 0
    told = contexts(usable, captioner.config)
    for name, context in (("told", told), ("untold", None)):
        rows = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        expected = captioner.caption_features(features, context=context)
        same = [row["caption"] == caption.text for row, caption in zip(rows, expected, strict=True)]
        assert sum(same) >= len(rows) - 2  # two words may be as likely to a model that has hardly learned
        assert [row["study"] for row in rows] == (ids if context is None else list(usable["study_id"]))
    assert main([*asked, "--images", str(phantoms), "--out", str(tmp_path / "x.jsonl")]) == 2
    assert "--images says how --data is read" in capfd.readouterr().err


def test_commands_refuse_it_without_its_words(run, tiny_run, phantoms, studies, capfd):
    images = studies["images"][0]
    for words, problem in (
        ([*images, "--bundle", str(run)], "--indication and --prior are of one study"),
        (["--data", str(phantoms), "--bundle", str(run)], "--indication and --prior are of one study"),
        ([images[0], "--bundle", str(tiny_run)], "reads nothing beside images"),
    ):
        assert main(["caption", *words, "--indication", MARK]) == 2
        output, error = capfd.readouterr()
        assert problem in error
        assert MARK not in output + error


@pytest.fixture(scope="module")
def client(run):
    for package in ("flask", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    from xray_captioning.serving import Settings, create_app

    app = create_app(Captioner.load(run), Settings(studies=2, batch=2, beam=2))
    assert app.extensions["captions"].warm.wait(60)
    return app.test_client()


def test_forms_have_fields_of_it(client, run, studies):
    from tests.serving.parts import form

    captioner, files = Captioner.load(run), [Path(studies["images"][i][0]).read_bytes() for i in (0, 1)]
    told = [{"indication": MARK}, {"prior": "Small effusion."}]
    fields = form(files[:1], images_2=files[1:], indication=MARK)
    fields["data"]["prior.2"] = told[1]["prior"]
    answer = client.post("/v1/captions", **fields).json
    expected = captioner.caption([files[:1], files[1:]], context=told)
    found = [answer, *answer["further"]]
    assert [f["log_probability"] for f in found] == pytest.approx([c.log_probability for c in expected], abs=1e-4)
    assert client.get("/v1/model").json["context"] == ["indication", "prior"]
    described = client.get("/openapi.json").json["components"]["schemas"]["Upload"]
    assert {"indication", "prior", "indication.2", "prior.2"} <= set(described["properties"])
    assert described["dependentRequired"]["prior.2"] == ["images.2"]


def test_a_text_of_a_form_is_bounded(client, studies, monkeypatch):
    from xray_captioning.serving import requests

    monkeypatch.setattr(requests, "MOST_TEXT", len(MARK))
    for text, status in ((MARK, 200), (f"{MARK}s", 422)):
        images = [(io.BytesIO(Path(studies["images"][0][0]).read_bytes()), "a.png")]
        assert client.post("/v1/captions", data={"images": images, "indication": text}).status_code == status


def test_no_answer_log_or_metric_holds_it(client, run, studies, capfd):
    file = Path(studies["images"][0][0]).read_bytes()
    heard = b""
    for fields, status in (
        ({"indication": MARK}, 200),
        ({"indication": [MARK, MARK]}, 422),
        ({"indication.2": MARK}, 422),
        ({"indication": MARK, "beam_size": MARK}, 422),
    ):
        answer = client.post("/v1/captions", data={"images": [(io.BytesIO(file), "a.png")], **fields})
        assert answer.status_code == status
        heard += answer.data
    heard += client.get("/metrics").data + "".join(capfd.readouterr()).encode()
    assert b"Zelda" not in heard


def test_a_form_for_a_model_that_reads_images_only_has_no_such_field(studies):
    for package in ("flask", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    from tests.serving.parts import toy_app
    from xray_captioning.serving.settings import Settings

    client = toy_app(Settings(batch=1)).test_client()
    data = {"images": [(io.BytesIO(b"x"), "a.png")], "indication": MARK}
    answer = client.post("/v1/captions", data=data)
    assert (answer.status_code, answer.json["detail"]) == (422, "this model reads no indication; send none")
    assert "indication" not in client.get("/openapi.json").json["components"]["schemas"]["Upload"]["properties"]


def test_the_app_has_a_line_for_each_and_reads_the_study_anew(run, monkeypatch):
    testing = pytest.importorskip("streamlit.testing.v1")
    heard, real = [], Captioner.write_captions

    def asked(self, *given, context=None, **named):
        heard.append(context)
        return real(self, *given, context=context, **named)

    monkeypatch.setattr(Captioner, "write_captions", asked)
    script = f"from xray_captioning.serving.app import main; main(['--bundle', {str(run)!r}])"
    page = testing.AppTest.from_string(script, default_timeout=120).run()
    page.button_group[0].set_value(0).run()
    assert [line.label for line in page.text_input] == ["Indication", "Prior"]
    page.text_input[0].set_value(MARK).run()
    assert not page.exception
    assert heard == [[{"indication": "", "prior": ""}], [{"indication": MARK, "prior": ""}]]
    page.button_group[0].set_value(1).run()  # another study, of which nothing was told
    assert heard[2:] == [[{"indication": "", "prior": ""}]]
    assert MARK not in "".join(block.value for block in page.get("html"))


def test_a_page_without_a_field_is_refused(run, tmp_path):
    pytest.importorskip("tf2onnx")
    from xray_captioning.web.page import write_page

    with pytest.raises(ConfigError, match="shows images only, but this bundle reads the indication and prior"):
        write_page(run, tmp_path / "page", "cdn")
    assert not (tmp_path / "page").exists()
