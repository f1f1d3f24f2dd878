"""What the API answers when all is well, and what it refuses."""

import base64
import hashlib
import io
import json
import re
import tempfile
from dataclasses import replace

import numpy as np
import pytest

from xray_captioning.captioner.caption import Caption, Sentence
from xray_captioning.files import sha256_file, shipped_folder
from xray_captioning.serving import Settings, requests
from xray_captioning.serving.answers import describe_study
from xray_captioning.serving.engine import Prediction

from .parts import GREY, Toy, as_json, black, dicom, encoded, form, toy_app

pytestmark = pytest.mark.usefixtures("eagerly")


def test_a_study_is_captioned_as_by_the_captioner(client, captioner, study):
    answer = client.post("/v1/captions", **form(study))
    assert answer.status_code == 200, answer.text
    (caption,) = captioner.caption([study])
    (chances,) = captioner.findings([study])
    found = answer.json
    assert found["text"] == caption.text
    assert found["log_probability"] == pytest.approx(caption.log_probability, abs=1e-4)
    assert [s["text"] for s in found["sentences"]] == [s.text for s in caption.sentences]
    assert found["findings"]["probabilities"] == pytest.approx(chances, abs=1e-5)
    assert set(found["findings"]["labels"].values()) <= {"present", "absent", "uncertain"}
    own = captioner.identity
    assert (found["model"], found["version"], found["digest"]) == ("phantom_attention", "1", own.digest)
    assert own.digest == sha256_file(shipped_folder() / "phantom_attention" / "manifest.json")
    assert "not for clinical use" in found["notice"]
    assert "synthetic phantoms" in found["notice"]
    assert found["further"] == found["alternatives"] == []
    assert found["timing"]["total"] >= found["timing"]["model"] > 0


def test_several_studies(client, captioner, study):
    swapped = study[::-1]
    answer = client.post("/v1/captions", **form(study, images_2=swapped, images_3=study[:1])).json
    texts = [answer["text"], *(one["text"] for one in answer["further"])]
    assert texts == [c.text for c in captioner.caption([study, swapped, study[:1]])]


def test_beam_and_alternatives(client, captioner, study):
    caption = captioner.caption([study], beam_size=3)[0]
    for fields in ({"alternatives": 2}, {"alternatives": 2, "beam_size": 3}):
        found = client.post("/v1/captions", **form(study, **fields)).json
        assert found["text"] == caption.text
        assert [a["text"] for a in found["alternatives"]] == [a.text for a in caption.alternatives]
    one = client.post("/v1/captions", **form(study, alternatives=1, beam_size=3)).json
    assert len(one["alternatives"]) == 1
    greedy = client.post("/v1/captions", **form(study, alternatives=1, beam_size=1)).json
    assert greedy["alternatives"] == []


def test_every_format_is_read_the_same(client):
    # From black to white, to which DICOM is stretched.
    whole = np.linspace(0, 255, 90 * 80).astype(np.uint8).reshape(90, 80)
    others = [encoded(".jpg", whole), encoded(".png", whole.T)]
    png, read, lossy, other = [
        client.post("/v1/captions", **form([file])).json["novelty"]
        for file in (encoded(".png", whole), dicom(whole), *others)
    ]
    assert read == pytest.approx(png, abs=0.01)
    assert lossy == pytest.approx(png, abs=0.05)
    assert other != pytest.approx(png, abs=0.1)


@pytest.mark.parametrize(
    ("views", "order"), [(("LL", "PA"), (1, 0)), (("PA", "LL"), (0, 1)), (("LL", None), (1, 0)), ((None, "AP"), (1, 0))]
)
def test_dicom_files_are_ordered_by_their_view(monkeypatch, views, order):
    toy = Toy()
    seen = []
    monkeypatch.setattr(toy, "features", lambda studies, resized: seen.extend(studies) or studies)
    app = toy_app(Settings(batch=1), toy)
    seen.clear()
    images = [GREY, GREY // 40 * 40]
    files = [dicom(image, view) for image, view in zip(images, views)]
    assert app.test_client().post("/v1/captions", **form(files)).status_code == 200
    alone = [app.test_client().post("/v1/captions", **form([file])) for file in files]
    assert all(answer.status_code == 200 for answer in alone)
    both, *single = seen
    for found, place in zip(both, order):
        np.testing.assert_array_equal(found, single[place][-1])
    for (first, *_), view in zip(single, views):  # a lateral alone stands in its own place
        assert (first is None) == (view == "LL")


def test_what_is_not_confident_is_not_said():
    client = toy_app(Settings(batch=1), Toy(calibration=object())).test_client()
    found = client.post("/v1/captions", **form([encoded()], threshold=0.5)).json
    assert found["text"] == "1 seen. [not confident]"
    assert [s["hedged"] for s in found["sentences"]] == [False, True]
    assert "heart" not in json.dumps(found)
    assert (found["novelty"], found["unfamiliar"], found["warning"]) == (0.5, False, None)
    everything = client.post("/v1/captions", **form([encoded()])).json
    assert everything["text"] == "1 seen. Small heart."
    others = client.post("/v1/captions", **form([encoded()], threshold=0.5, alternatives=1)).json
    assert others["alternatives"] == []


def test_views_are_fields_of_the_form(client, captioner, study):
    for views, images in ((["lateral"], study[:1]), (["lateral", "frontal"], study)):
        found = client.post("/v1/captions", **form(images, views=views)).json
        (caption,) = captioner.caption([images], views=views)
        assert found["log_probability"] == pytest.approx(caption.log_probability, abs=1e-4)
    plain = client.post("/v1/captions", **form(study[:1])).json
    fields = form(study[:1], images_2=study[:1], views_2=["lateral"])
    two = client.post("/v1/captions", **fields).json
    assert two["log_probability"] == pytest.approx(plain["log_probability"], abs=1e-4)
    assert two["further"][0]["log_probability"] != pytest.approx(two["log_probability"], abs=1e-4)


def test_of_unfamiliar_images_no_finding_has_a_probability():
    caption = Caption("Edema.", [], -1.0, [Sentence("Edema.", -0.1)], None, [], 1.5)
    for novelty, expected in ((1.5, None), (0.5, {"Edema": 0.9}), (None, {"Edema": 0.9})):
        prediction = Prediction(caption._replace(novelty=novelty), {"Edema": 0.9})
        assert describe_study(prediction).findings["probabilities"] == expected


def test_of_unfamiliar_images_nothing_is_confident():
    client = toy_app(Settings(batch=1), Toy(object(), novelty=1.5)).test_client()
    asked = form([encoded()], threshold=0.1, show_unfamiliar="true")
    found = client.post("/v1/captions", **asked).json
    assert found["text"] == "[not confident] [not confident]"
    assert all(sentence["hedged"] for sentence in found["sentences"])
    assert found["findings"]["labels"] == {}
    assert (found["novelty"], found["unfamiliar"]) == (1.5, True)
    assert "not like the chest X-rays" in found["warning"]


@pytest.mark.parametrize("fields", [{}, {"threshold": 0}, {"beam_size": 2, "alternatives": 1}])
def test_of_unfamiliar_images_nothing_is_said_unless_asked_for(fields):
    client = toy_app(Settings(batch=1), Toy(object(), novelty=1.5)).test_client()
    said = [
        client.post("/v1/captions", **form([encoded()], **fields, **asked)).json
        for asked in ({}, {"show_unfamiliar": "false"}, {"show_unfamiliar": "true"})
    ]
    for silent in said[:2]:
        assert (silent["text"], silent["sentences"], silent["alternatives"]) == ("", [], [])
        assert silent["findings"] == {"probabilities": None, "labels": {}}
        assert "not like the chest X-rays" in silent["warning"]
    assert said[2]["text"] == "1 seen. Small heart."
    assert said[2]["warning"] == said[0]["warning"]


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    document = answer.get_json(force=True)
    assert document["status"] == status
    assert document["title"]
    assert document["request_id"] == answer.headers["X-Request-ID"]
    return document["detail"]


REFUSED = pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 400, "images"),
        ({"images": [b""]}, 422, "image 1: is empty"),
        ({"images": [b"GIF89a"]}, 422, "none of PNG"),
        ({"images": [encoded()] * 3}, 422, "images: 3 files"),
        ({"images": [encoded(), encoded()[:-20]]}, 422, "image 2: is truncated"),
        ({"images": [encoded()], "images_2": [b"x"]}, 422, "study 2, image 1"),
        ({"images": [encoded()], "images_3": [encoded()]}, 422, "images.2: 0 files"),
        ({"images_2": [encoded()]}, 422, "images: 0 files"),
        ({"images": [encoded()], "images_4": [encoded()]}, 400, "images.3"),
        ({"images": [encoded()], "beam": 3}, 400, "beam_size"),
        ({"images": [encoded()], "views": ["side"]}, 422, "one of frontal, lateral, unknown"),
        ({"images": [encoded()], "views": ["lateral"] * 2}, 422, "as images, 1 times"),
        ({"images": [encoded()] * 2, "views": ["lateral"] * 2}, 422, "one frontal and one"),
        ({"images": [encoded()], "views_2": ["lateral"]}, 422, "views.2: there are no images.2"),
        ({"images": [encoded()], "beam_size": 0}, 422, "1 to 3"),
        ({"images": [encoded()], "beam_size": 4}, 422, "1 to 3"),
        ({"images": [encoded()], "beam_size": "2.5"}, 422, "whole number"),
        ({"images": [encoded()], "beam_size": "१"}, 422, "whole number"),
        ({"images": [encoded()], "alternatives": 3}, 422, "0 to 2"),
        ({"images": [encoded()], "threshold": "nan"}, 422, "number from 0 to 1"),
        ({"images": [encoded()], "threshold": "1.1"}, 422, "number from 0 to 1"),
        ({"images": [encoded()], "show_unfamiliar": 2}, 422, "one true or false"),
        ({"images": "text"}, 400, "no file"),
        ({"images": [black(1001, 1000)]}, 422, "limit of 1,000,000"),
        ({"images": [black(1, 11)]}, 422, "strip"),
        ({"images": [black(11, 1)]}, 422, "strip"),
        ({"images": [dicom(np.zeros((9, 800), np.uint8))]}, 422, "strip"),
        ({"images": [bytes(3 << 20)]}, 413, "too large"),
    ],
)


@REFUSED
def test_what_is_refused(client, fields, status, words):
    assert words in problem(client.post("/v1/captions", **form(**fields)), status)


@REFUSED
def test_json_is_refused_like_a_form(client, fields, status, words):
    # In JSON a text where a number belongs is no value out of range but another type.
    other = any(isinstance(value, str) for value in fields.values())
    detail = problem(client.post("/v1/captions", **as_json(**fields)), 400 if other else status)
    assert (" cannot be read: images are a list" if other else words) in detail


def test_json_and_a_form_get_the_same_answer(client, study):
    two = {"images_2": study[:1], "views_2": ["lateral"], "beam_size": 2, "alternatives": 1}
    for in_form, in_json in (
        ({}, {}),
        (two, two),
        ({"attention": "true", "show_unfamiliar": "false"}, {"attention": True, "show_unfamiliar": False}),
        ({"threshold": "0.00001", "beam_size": "2"}, {"threshold": 1e-05, "beam_size": 2.0}),
    ):
        sent = form(study, **in_form), as_json(study, **in_json)
        by_form, by_json = (client.post("/v1/captions", **one).json for one in sent)
        for answer in (by_form, by_json):
            assert answer.pop("timing")["total"] > 0
            assert answer.pop("request_id")
        assert by_form == by_json


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON object"),
        (b"[]", "no JSON object"),
        (b'{"images": "QUJD"}', "images cannot be read: images are a list of files in base64"),
        (b'{"images": ["QUJ"]}', "images cannot be read"),  # base64 without its padding
        (b'{"images": ["data:image/png;base64,QUJD"]}', "images cannot be read"),
        (b'{"images": [null]}', "images cannot be read"),
        (b'{"images": ["QUJD"], "beam_size": "3"}', "beam_size cannot be read"),
        (b'{"images": ["QUJD"], "views": "frontal"}', "views cannot be read"),
        (b'{"images": ["QUJD"], "attention": NaN}', "no JSON object"),
        (b'{"images": ["QUJD"], "views": ["\xff"]}', "views cannot be read"),
        (b'{"images": ["QUJD"], "deep": ' + b"[" * 100_000, "no JSON object"),
        (b'{"images": ["QUJD"], "images" : ["QUJD"]}', "there twice"),
        (b'{"images": ["QUJD"], "im\\u0061ges": ["QUJD"]}', "written as escapes"),
        (b'{"images": ["QUJD"], "patient": {"name": "Doe"}}', "not known"),
    ],
)
def test_what_is_no_such_json(client, body, words):
    detail = problem(client.post("/v1/captions", data=body, content_type="application/json"), 400)
    assert words in detail
    assert "Doe" not in detail


def test_values_of_json_are_bounded(client, monkeypatch):
    monkeypatch.setattr(requests.MemoryRequest, "max_form_memory_size", 20)
    views = {"images": [encoded()], "views": ["frontal"]}
    assert client.post("/v1/captions", **as_json(**views)).status_code == 200
    problem(client.post("/v1/captions", **as_json(**{**views, "views": ["frontal"] * 30})), 413)


def test_json_is_bounded_by_its_own_bytes(client):
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000), dtype=np.uint8)
    file = dicom(noise) + bytes(700_000)  # 1.7 MB, and 2.3 MB in base64, of which 2 MiB are allowed
    problem(client.post("/v1/captions", **as_json([file])), 413)
    assert client.post("/v1/captions", **form([file])).status_code in (200, 422)


def test_the_attention_is_answered_on_request_of_each_word_that_is_shown(client, captioner, study):
    assert client.post("/v1/captions", **form(study)).json["attention"] is None
    found = client.post("/v1/captions", **form(study, attention="true")).json
    (caption,) = captioner.caption([study])
    places = [i for i, word in enumerate(caption.words) if any(map(str.isalnum, word))]
    assert [one["word"] for one in found["attention"]] == [caption.words[i] for i in places]
    maps = np.array([one["map"] for one in found["attention"]])
    np.testing.assert_allclose(maps, caption.attention[places], atol=1e-4)
    np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), 1, atol=1e-3)
    for one in found["attention"]:
        assert one["word"] in found["sentences"][one["sentence"]]["text"].lower()


def test_the_attention_names_no_word_that_is_withheld():
    sentences = [Sentence("Edema.", -0.1, 0.9), Sentence("Small heart.", -2.0, 0.2)]
    maps = np.full((5, 1, 2, 2), 0.25, np.float32)
    caption = Caption("", ["edema", ".", "small", "heart", "."], -1.0, sentences, maps, [], 0.5)
    for threshold, words in ((0, ["edema", "small", "heart"]), (0.5, ["edema"])):
        found = describe_study(Prediction(caption, None), threshold, maps=True).attention
        assert [one["word"] for one in found] == words
    unfamiliar = Prediction(caption._replace(novelty=2.0), None)
    assert describe_study(unfamiliar, maps=True).attention is None
    assert describe_study(unfamiliar, 0.5, anyway=True, maps=True).attention == []


def test_a_threshold_needs_a_calibrated_model(study):
    client = toy_app(Settings(batch=1)).test_client()
    answer = client.post("/v1/captions", **form(study, threshold="0.5"))
    assert "not calibrated" in problem(answer, 422)


def test_other_errors_are_problems_too(client):
    problem(client.get("/nothing/../../nowhere"), 404)
    answer = client.delete("/v1/model")
    problem(answer, 405)
    assert "GET" in answer.headers["Allow"]
    problem(client.post("/v1/captions", data="images", content_type="text/plain"), 415)
    problem(client.post("/v1/captions?beam_size=3", **as_json([encoded()])), 400)
    problem(client.post("/v1/captions?beam_size=3", **form([encoded()])), 400)


def test_a_model_is_called_by_its_own_name_not_by_the_presets():
    found = toy_app(Settings(), Toy()).test_client().get("/v1/model").json
    told = {name: found[name] for name in ("name", "version", "digest", "origin", "preset")}
    origin = "hf://me/toy@main"
    assert told == {"name": "toy", "version": "2", "digest": "0f" * 32, "origin": origin, "preset": "phantom_attention"}


def test_a_failure_of_the_model_tells_nothing_outside(monkeypatch, capsys):
    toy = Toy()
    app = toy_app(Settings(batch=1), toy)

    def fail(studies, resized):
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(toy, "features", fail)
    answer = app.test_client().post("/v1/captions", **form([encoded()]))
    detail = problem(answer, 500)
    monkeypatch.undo()
    logged = capsys.readouterr().err
    assert "secret" not in detail + logged
    assert "RuntimeError" in logged
    assert app.test_client().post("/v1/captions", **form([encoded()])).status_code == 200


def test_the_token(study):
    token = "a-token-of-some-length"
    client = toy_app(Settings(batch=1, token=token)).test_client()
    for path in ("/", "/docs", "/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code == 200
    right = {"Authorization": f"Bearer {token}"}
    for path in ("/v1/model", "/metrics"):
        assert client.get(path, headers=right).status_code == 200
    for wrong in ({}, {"Authorization": f"Basic {token}"}, {"Authorization": "Bearer ä"}):
        answer = client.get("/v1/model", headers=wrong)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        problem(client.post("/v1/captions", headers=wrong, **form(study)), 401)
    assert client.post("/v1/captions", headers=right, **form(study)).status_code == 200


def test_request_ids(client):
    given = client.get("/healthz", headers={"X-Request-ID": "abc-1.2_X"})
    assert given.headers["X-Request-ID"] == "abc-1.2_X"
    for bad in ("a b", "x" * 65, "<script>", "é", ""):
        made = client.get("/healthz", headers={"X-Request-ID": bad}).headers["X-Request-ID"]
        assert re.fullmatch("[0-9a-f]{32}", made)


def test_headers_of_every_answer(client):
    for answer in (client.get("/"), client.get("/none"), client.get("/v1/model")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_page_loads_nothing_from_elsewhere(client):
    text = client.get("/").text
    text = text.replace('createElementNS("http://www.w3.org/2000/svg"', "")  # a name; nothing is loaded
    text = text.replace('<a href="docs">', "")  # loads nothing before it is followed
    assert not re.search(r"<[^>]*\s(src|href|style|on\w+)=|url\(|@import|https?:", text)
    policy = client.get("/").headers["Content-Security-Policy"]
    assert policy.count("sha256-") == 2
    assert "unsafe" not in policy


def test_the_description_for_people_says_all_and_loads_nothing(client):
    answer, described = client.get("/docs"), client.get("/openapi.json").json
    text, schemas = answer.text, described["components"]["schemas"]
    assert not re.search(r"<script|<[^>]*\s(src|style|on\w+)=|url\(|@import|https?:", text)
    assert {link for link in re.findall('href="(.*?)"', text) if link[0] != "#"} == {"openapi.json", "./"}
    assert set(re.findall('href="#(.*?)"', text)) <= set(re.findall('id="(.*?)"', text))
    for named in (*described["paths"], *(name for schema in schemas.values() for name in schema["properties"])):
        assert named in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    allowed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{allowed}'" in answer.headers["Content-Security-Policy"]


def test_logs_hold_nothing_that_was_sent(client, capsys):
    secret = "jane-doe-19700101"
    files = [dicom(PatientName=secret), encoded()]
    data = {"images": [(io.BytesIO(file), f"../{secret}.dcm") for file in files], secret: secret}
    assert client.post("/v1/captions", data=data).status_code == 400
    data.pop(secret)
    data["images"] = [(io.BytesIO(file), f"../{secret}.dcm") for file in files]
    answer = client.post("/v1/captions", data=data)
    assert answer.status_code == 200
    client.get(f"/{secret}", headers={"User-Agent": secret, "X-Request-ID": f"{secret}<"})
    logged = capsys.readouterr().err
    assert secret not in logged + answer.text
    events = [json.loads(line) for line in logged.splitlines()]
    assert [event["status"] for event in events] == [400, 200, 404]
    assert {"time", "event", "request_id", "route", "seconds"} <= set(events[0])


def test_uploads_never_touch_the_disk(client, study, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a temporary file was made")

    for name in ("TemporaryFile", "SpooledTemporaryFile", "NamedTemporaryFile", "mkstemp"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr("werkzeug.formparser.TemporaryFile", refuse, raising=False)
    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", refuse, raising=False)
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000), dtype=np.uint8)
    assert len(encoded(image=noise)) > 800_000
    assert client.post("/v1/captions", **form([encoded(image=noise)])).status_code == 200


METRICS = {  # name: type, and names of the labels
    "xray_captioning_requests_total": ("counter", {"route", "status"}),
    "xray_captioning_studies_total": ("counter", set()),
    "xray_captioning_caption_seconds": ("histogram", {"le"}),
    "xray_captioning_batch_studies": ("histogram", {"le"}),
    "xray_captioning_studies_in_work": ("gauge", set()),
    "xray_captioning_ready": ("gauge", set()),
}


def families(text):
    """Return the metrics of an answer, as METRICS has them."""
    found = {}
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            *_, name, kind = line.split()
            found[name] = (kind, set())
        elif not line.startswith("#"):
            owner = re.sub("_(bucket|sum|count)$", "", re.match(r"\w+", line)[0])
            found[owner][1].update(re.findall(r'(\w+)="', line))
    return found


def test_metrics(client, study):
    client.post("/v1/captions", **form(study))
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert families(answer.text) == METRICS
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
    assert values['xray_captioning_requests_total{route="/v1/captions",status="200"}'] >= 1
    assert values["xray_captioning_ready"] == 1
    assert values["xray_captioning_studies_in_work"] == 0
    fresh = toy_app(Settings(batch=1)).test_client().get("/metrics").text
    assert "xray_captioning_studies_total 0.0\n" in fresh  # each application counts for itself


def test_nothing_is_compiled_for_a_request():
    asked = []

    class Asked(Toy):
        def write_captions(self, studies, beam_size):
            asked.append((beam_size, len(studies)))
            images = [id(image) for study in studies for image in study]
            assert len(set(images)) == len(images), "the same image is encoded once"
            return super().write_captions(studies, beam_size)

    toy_app(Settings(batch=6, beam=3), toy := Asked())
    own = toy.config.decoding.beam_size
    assert sorted({size for beam, size in asked if beam == own}) == [1, 2, 4, 6]
    assert sorted(pair for pair in asked if pair[0] != own) == [(beam, 6) for beam in (1, 2, 3) if beam != own]


def test_not_ready_before_the_model_is_compiled():
    from xray_captioning.serving import create_app

    toy = Toy()
    toy.go.clear()
    app = create_app(toy, Settings(batch=1))
    client = app.test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    answer = client.post("/v1/captions", **form([encoded()]))
    problem(answer, 503)
    assert int(answer.headers["Retry-After"]) >= 1
    toy.go.set()
    assert app.extensions["captions"].warm.wait(60)
    assert client.get("/readyz").status_code == 200


def test_the_model_is_described(client, settings):
    model = client.get("/v1/model").json
    assert model["name"] == "phantom_attention"
    assert model["limits"]["pixels"] == 1_000_000
    assert model["limits"]["body_bytes"] == 2 << 20
    assert "Pneumothorax" in model["findings"]


def test_settings_are_checked(settings):
    from xray_captioning.errors import ConfigError

    assert settings.replace(["batch=2", "queue=5"]).queue == 5
    for wrong in (["queue=0"], ["queue=1"], ["seconds=1.5"], ["token=xxx"], ["queue"], ["batch=x"]):
        with pytest.raises(ConfigError):
            settings.replace(wrong)
    with pytest.raises(ConfigError, match="token"):
        replace(settings, token="short")
    assert "0123456789abcdef" not in repr(replace(settings, token="0123456789abcdef"))
