"""The demonstration leaves what it says, and trains everything itself, compiled as for users."""

import json

import pytest

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.config import load_preset


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    from xray_captioning import demo
    from xray_captioning.bundles import bundle
    from xray_captioning.captioner import captioner
    from xray_captioning.encoders import encoder

    def never(*args, **kwargs):
        raise AssertionError("the demo must not load shipped weights")

    folder, said = tmp_path_factory.mktemp("demo") / "demo", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "STUDIES", 30)
        patch.setattr(demo, "ENCODER", {**demo.ENCODER, "epochs": 1})
        short = {"training.epochs": 1, "image.size": 64}
        short |= {f"model.{size}": 16 for size in ("head", "units", "embedding", "attention")}
        patch.setattr(demo, "load_preset", lambda name: load_preset(name).replace(short))
        for module in (bundle, captioner, encoder):
            patch.setattr(module, "find_bundle", never)
        demo.run_demo(folder, seed=3, say=said.append)
    assert [line[:3] for line in said if line[0].isdigit()] == ["1/4", "2/4", "3/4", "4/4"]
    return folder


def test_results_pictures_and_bundles_are_there(out):
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert {"metrics.json", "captions.csv", "panel.png"} <= names
    assert {"global_attention/curves.png", "encoder/curves.png", "encoder/metrics.json"} <= names
    assert not (out / "cache").exists()


def test_the_table_holds_the_model_and_the_baselines(out):
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    found = [(row["system"], row["search"]) for row in rows]
    assert found[:2] == [("global_attention", "greedy"), ("global_attention", "beam-3")]
    baselines = ["constant", "constant-clinical_f1", "random", "retrieval"]
    assert [name for name, _ in found[2:]] == baselines


def test_the_model_card_says_what_it_is_and_carries_the_table(out):
    card = (out / "global_attention" / "README.md").read_text()
    assert "synthetic phantoms only" in card
    assert "| constant |" in card
    assert "must not be used to" in card
    assert Captioner.load(out / "global_attention").about["rows"]
