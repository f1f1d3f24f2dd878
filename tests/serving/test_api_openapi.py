"""What the API says of itself is true."""

import json
import re

import pytest

from xray_captioning.captioner.caption import Region
from xray_captioning.serving import Settings

from .parts import Toy, as_json, encoded, form, toy_app

pytestmark = pytest.mark.usefixtures("eagerly")

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def described(client):
    return client.get("/openapi.json").json


def check(described, answer, path, method):
    """Check an answer against what is promised of it."""
    responses = described["paths"][path][method]["responses"]
    assert str(answer.status_code) in responses, answer.status_code
    promised = responses[str(answer.status_code)]
    if "$ref" in promised:
        promised = described["components"]["responses"][promised["$ref"].rpartition("/")[2]]
    content = promised["content"][answer.mimetype]
    for header, _ in promised.get("headers", {}).items():
        assert header in answer.headers
    if "json" in answer.mimetype:
        schema = {**content["schema"], "components": described["components"]}
        validator = jsonschema.Draft202012Validator(schema)
        validator.validate(json.loads(answer.text))


def test_every_route_is_described_and_no_other(app, described):
    routes = {
        (rule.rule, method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    paths = {(path, method) for path, found in described["paths"].items() for method in found}
    assert routes == paths


def test_answers_are_as_described(client, described, study):
    for path in ("/", "/docs", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/model"):
        check(described, client.get(path), path, "get")
    good = [form(study), form(study, images_2=study[:1], alternatives=2), form(study, beam_size=1)]
    good += [as_json(study, attention=True), form(study, attention="true")]
    bad = [form(), form([b"x"]), form([bytes(3 << 20)]), form(study, threshold=3), as_json([b"x"])]
    for request in good + bad:
        check(described, client.post("/v1/captions", **request), "/v1/captions", "post")
    check(described, client.post("/v1/captions", json=[]), "/v1/captions", "post")


def test_calibrated_answers_are_as_described(study):
    token = "sixteen-letters-or-more"
    app = toy_app(Settings(batch=1, token=token), Toy(calibration=object()))
    client, headers = app.test_client(), {"Authorization": f"Bearer {token}"}
    described = client.get("/openapi.json").json
    answer = client.post("/v1/captions", headers=headers, **form(study, threshold=".5"))
    check(described, answer, "/v1/captions", "post")
    assert answer.status_code == 200
    for path in ("/v1/model", "/metrics"):
        check(described, client.get(path), path, "get")
        check(described, client.get(path, headers=headers), path, "get")
        assert described["paths"][path]["get"]["security"]


def test_regions_are_as_described_and_only_of_sentences_that_are_shown(study):
    known = {"view": 1, "box": (0.1, 0.2, 0.3, 0.4), "method": "gradient", "hits": 0.9, "chance": 0.2}
    two = [Region(sentence=n, finding="Edema", words="edema", **known) for n in (0, 1)]
    toy = Toy(calibration=object())
    real = toy.write_captions
    toy.write_captions = lambda *given: [one._replace(regions=two) for one in real(*given)]
    client = toy_app(Settings(batch=1), toy).test_client()
    described = client.get("/openapi.json").json
    for threshold, sentences in ((0, [0, 1]), (0.5, [0])):
        answer = client.post("/v1/captions", **form(study, threshold=threshold))
        check(described, answer, "/v1/captions", "post")
        assert [one["sentence"] for one in answer.json["regions"]] == sentences
    assert answer.json["regions"][0]["hits"] == 0.9
    toy.novelty = 2.0
    asked = form(study, show_unfamiliar="true")
    assert client.post("/v1/captions", **asked).json["regions"] is None  # of such images it was not measured
    assert client.get("/v1/model").json["image"]["whole"]
    toy.config = toy.config.replace({"image.resize": "xrv"})
    assert not client.get("/v1/model").json["image"]["whole"]


def test_limits_are_those_of_this_server(client, described, settings):
    fields = described["components"]["schemas"]["Upload"]["properties"]
    studies = {name for name in fields if re.match(r"images", name)}
    assert studies == {"images", "images.2", "images.3"}
    assert fields["beam_size"]["maximum"] == settings.beam == 3
    at_most = form([encoded()], beam_size=3, alternatives=2)
    assert client.post("/v1/captions", **at_most).status_code == 200


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_schemathesis_finds_nothing():
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given
    from hypothesis import settings as budget
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    schema = schemathesis.openapi.from_wsgi("/openapi.json", toy_app(Settings(batch=1)))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= 6  # it leaves out the description itself
    good, bad = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    kinds = [(operation, good) for operation in operations]
    kinds += [(operation, bad) for operation in operations if operation.body]
    seen = []
    for operation, mode in kinds:

        @given(case=operation.as_strategy(generation_mode=mode))
        @budget(
            max_examples=25 if operation.body else 2,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def fuzz(case):
            # What a file holds, no description can promise; all else that it allows is accepted.
            answer = case.call()
            seen.append(answer.status_code)
            # Nor does a schema say that there are as many views as files.
            unread = answer.status_code == 422 and re.search(r"image \d: |views", answer.text)
            excluded = [positive_data_acceptance] if unread else []
            case.validate_response(answer, excluded_checks=excluded)

        fuzz()
    assert len(seen) > 40
    assert {status for status in seen if status >= 400} <= {400, 415, 422}
