"""An exported bundle is served as the same bundle in Keras is, and needs nothing compiled."""

from io import BytesIO

import pytest

pytest.importorskip("onnxruntime")

from xray_captioning.runtime import load
from xray_captioning.serving import create_app


def test_answers_are_those_of_keras(client, settings, study):
    app = create_app(load("phantom_attention"), settings)
    assert app.extensions["captions"].warm.wait(60)
    assert app.extensions["captions"]._sizes() == [(1, 1)]
    answers = []
    for one in (client, app.test_client()):
        data = {"images": [(BytesIO(file), "image.png") for file in study], "beam_size": "2"}
        answers.append(one.post("/v1/captions", data=data))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json["text"] == answers[1].json["text"]
    chances = [answer.json["findings"]["probabilities"] for answer in answers]
    assert chances[0] == pytest.approx(chances[1], abs=1e-4)
