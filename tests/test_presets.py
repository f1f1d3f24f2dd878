"""Every recipe names what exists, fits its encoder's published weights, and runs to its end."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.config import load_preset, presets
from xray_captioning.decoders import DECODERS, CaptionModel
from xray_captioning.encoders import ENCODERS

pytestmark = pytest.mark.usefixtures("eagerly")

ROOT = Path(__file__).parents[1]
PUBLISHED = [name for name in presets() if name not in ("phantom_attention", "lite_attention")]


def test_recipes_name_what_exists_and_are_documented():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    written = "".join(page.read_text("utf-8") for page in pages)
    for name in presets():
        config = load_preset(name)
        assert config.name == name
        assert config.model.decoder in DECODERS
        published = ENCODERS[config.model.encoder].normalisation
        assert published in (None, config.image.normalisation)
        assert f"| `{name}`" in written


def test_the_recipes_differ_in_what_they_are_named_for():
    configs = [load_preset(name) for name in PUBLISHED]
    assert len({(c.model.encoder, c.model.decoder) for c in configs}) == len(PUBLISHED) == 7
    assert load_preset("vit_gpt2").fractions[2] == 0.2
    assert load_preset("vit_gpt2").training.weight_decay > 0


@pytest.mark.parametrize("name", presets())
def test_the_model_of_a_recipe_gives_logits_at_its_widths(name):
    config = load_preset(name).replace({"model.language_model": ""})
    grid = (config.image.views, 2, 2)
    model = CaptionModel(config.model, 40, grid, 16, config.text.maximum_length)
    regions = np.zeros((1, math.prod(grid), 16), "float32")
    inputs = {"regions": regions, "mask": regions[..., 0] == 0, "tokens": np.ones((1, 5), "int32")}
    assert model(inputs).shape == (1, 5, 40)


@pytest.mark.slow
def test_a_recipe_trains_evaluates_and_captions(phantoms, tiny_config, tiny_encoder_run, tiny_cache, tmp_path, capsys):
    """On the tiny encoder's features; notebooks and benchmarks/phantom.py train the others."""
    tiny, out = tiny_config.to_dict(), tmp_path / "vit_gpt2"
    changes = {f"image.{field}": tiny["image"][field] for field in ("size", "normalisation")}
    changes |= {f"model.{field}": 16 for field in ("head", "units", "embedding", "attention")}
    changes |= {"model.encoder": "phantom_cnn", "model.pool": 1, "model.language_model": ""}
    changes |= {"fractions": tiny["fractions"], "training.epochs": 1, "model.heads": 2}
    changes |= {"model.layers": 1, "text.maximum_length": 16}
    command = [
        *("train", "--preset", "vit_gpt2", "--data", str(phantoms), "--out", str(out)),
        *("--encoder", str(tiny_encoder_run), "--cache", str(tiny_cache)),
        *(part for item in changes.items() for part in ("--set", _assignment(*item))),
    ]
    assert main(command) == 0
    rows = json.loads((out / "metrics.json").read_text("utf-8"))["rows"]
    found = [(row["system"], row["search"]) for row in rows]
    assert found[:2] == [("vit_gpt2", "greedy"), ("vit_gpt2", "beam-3")]
    baselines = ["constant", "constant-clinical_f1", "random", "retrieval"]
    assert [system for system, _ in found[2:]] == baselines
    assert "| constant |" in (out / "README.md").read_text("utf-8")
    image = min(phantoms.rglob("*.png"))
    capsys.readouterr()
    assert main(["caption", "--bundle", str(out), str(image)]) == 0
    assert capsys.readouterr().out.startswith(f"{image}\t")


def _assignment(name, value):
    return f"{name}={value if isinstance(value, str) else json.dumps(value)}"
