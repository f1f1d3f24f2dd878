"""Sweeps: what is tried, that they go on, and what their table says."""

import csv
import json
import re
import warnings

import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.config import Config
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.training import sweep as module
from xray_captioning.training.run_folder import STATE
from xray_captioning.training.sweep import Range, parse_space, settings, shown, sweep

pytestmark = pytest.mark.usefixtures("eagerly")


def test_the_values_of_a_grid_are_read():
    lists = '["indication","prior"],["indication"],[]'
    given = [f"text.context={lists}", "model.pool=1,2", "model.decoder=gru,lstm", "training.learning_rate=1e-4..1e-2"]
    assert parse_space([*given, "model.units=8..32", "model.tied_embeddings=true,false"]) == {
        "text.context": [["indication", "prior"], ["indication"], []],
        "model.pool": [1, 2],
        "model.decoder": ["gru", "lstm"],
        "training.learning_rate": Range(1e-4, 1e-2),
        "model.units": Range(8, 32),
        "model.tied_embeddings": [True, False],
    }


@pytest.mark.parametrize(
    "text",
    [
        *("model.pool", "model.pool=", "model.units=9..3", "model.units=a..b", "model.units=1..2..3"),
        *("training.seed=1,2", "text.section=findings,impression", "encoder_training.epochs=1,2"),
        *("training.epochs= ", "text.context=[indication,prior]", "model.pool=[1,2],[3"),
    ],
)
def test_what_cannot_be_compared_or_read_is_refused(text):
    with pytest.raises(ConfigError, match=r"--grid|cannot read"):
        parse_space([text])
    with pytest.raises(ConfigError, match="a field once"):
        parse_space(["model.pool=1", "model.pool=2"])


def test_every_combination_is_tried():
    space = {"model.pool": [1, 2], "model.units": [8, 16, 8]}
    tried = [tuple(setting.values()) for setting in settings(space, None, 0)]
    assert tried == [(1, 8), (1, 16), (2, 8), (2, 16)]
    with pytest.raises(ConfigError, match="add --trials"):
        settings({"model.units": Range(8, 16)}, None, 0)


def test_random_settings_are_those_of_the_seed_and_each_is_tried_once():
    pytest.importorskip("optuna")
    rates, units = Range(1e-4, 1e-2), Range(8, 32)
    space = {"training.learning_rate": rates, "model.units": units, "model.pool": [1, 2]}
    drawn = settings(space, 200, 7)
    assert drawn[:5] == settings(space, 5, 7)
    assert drawn[:5] != settings(space, 5, 8)
    found = np.array([list(setting.values()) for setting in drawn])
    assert (found.min(axis=0)[1:] == (8, 1)).all()
    assert (found.max(axis=0)[1:] == (32, 2)).all()
    assert 0.35 < (found[:, 0] < 1e-3).mean() < 0.65  # by logarithm
    for setting in drawn:
        Config().replace(setting)
    assert len(settings({"model.pool": [1, 2]}, 30, 0)) == 2
    contexts = [["indication", "prior"], []]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # optuna's, of values that it would not keep
        assert {len(one["text.context"]) for one in settings({"text.context": contexts}, 30, 0)} == {0, 2}


@pytest.fixture
def stubbed(monkeypatch, tmp_path):
    """Train and evaluate in no time; losses are by setting and seed."""
    trained = []

    def train(studies, config, run, measured, resume, **options):
        assert resume
        assert not measured
        if config.model.units == 3:
            raise BundleError("loss became nan")
        if (run / STATE).exists():
            return
        trained.append((config.model.units, config.training.seed))
        run.mkdir(parents=True)
        loss = config.model.units / 10 + config.training.seed
        history = [{"val_loss": value, "val_reward": 2 - value} for value in (loss + 1, loss, loss + 2)]
        np.savez(run / STATE, history=json.dumps(history))

    def evaluate(studies, systems, out, part, **options):
        assert part == "val"
        scores = {"clinical_f1": 0.5, "BLEU-4": 0.2, "CIDEr": 1.0}
        names = {name: f"{name} greedy" for name in systems} | {"constant": "constant"}
        rows = [
            {"system": name, "search": "greedy" if name in systems else None, "distinct": 4, "n": 9} | scores
            for name in names
        ]
        each = [scores, {**scores, "clinical_f1": 0.7}]
        runs = {names[name]: each[: len(given)] for name, given in systems.items()}
        intervals = {name: {"clinical_f1": [0.4, 0.8], "BLEU-4": None, "CIDEr": None} for name in names.values()}
        (out / "metrics.json").write_text(json.dumps({"rows": rows, "runs": runs, "intervals": intervals}))

    monkeypatch.setattr(module.provenance, "open_studies", lambda studies, split, images: (studies, {}, split))
    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "evaluate", evaluate)
    return trained


def test_a_table_has_means_deviations_and_intervals_the_best_setting_first(stubbed, tmp_path, capsys):
    chosen = [{"model.units": units} for units in (8, 3, 2)]
    rows = sweep(None, Config(), tmp_path / "out", chosen, 2)
    said = capsys.readouterr().err.splitlines()
    assert [row["system"] for row in rows] == ["model.units=2", "model.units=8", "constant"]
    best, _, constant = rows
    assert best["val_loss"] == pytest.approx(0.7)  # of 0.2 and 1.2
    assert best["val_loss_sd"] == pytest.approx(0.5**0.5)
    reach = 12.706 * 0.5**0.5 / 2**0.5  # Student's t with one degree of freedom
    assert best["val_loss_low"] == pytest.approx(0.7 - reach, abs=1e-3)
    assert [best[f"clinical_f1{part}"] for part in ("", "_low", "_high")] == [0.6, 0.4, 0.8]
    assert best["clinical_f1_sd"] == pytest.approx(0.02**0.5)
    assert (best["model.units"], best["seeds"], best["BLEU-4_low"]) == (2, 2, None)
    assert (constant["clinical_f1"], constant["seeds"], constant["val_loss"]) == (0.5, None, None)
    assert [line for line in said if "left out" in line] == ["  left out: loss became nan"] * 2
    with open(tmp_path / "out" / "sweep.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["system"] for line in lines] == [row["system"] for row in rows]
    assert shown(rows, "val_loss")[0]["clinical_f1"] == "0.600 ± 0.141 [0.400, 0.800]"


def test_each_setting_has_a_folder_of_its_own(stubbed, tmp_path):
    values = [[], ["indication"], ["prior"], ["indication", "prior"], ["prior", "indication"]]
    chosen = [{"text.context": value, "model.units": units} for value in values for units in (8, 2)]
    names = ("learning_rate", "label_smoothing", "weight_decay", "finding_weight", "scheduled_sampling")
    chosen += [{**{f"training.{name}": 0.25 for name in names}, "model.units": units} for units in (8, 2)]
    sweep(None, Config(), tmp_path / "out", chosen, 1)
    assert len(stubbed) == len(chosen) == sum(path.is_dir() for path in (tmp_path / "out").iterdir())


def test_a_sweep_goes_on_and_grows(stubbed, tmp_path):
    chosen = [{"model.units": 8}]
    sweep(None, Config(), tmp_path / "out", chosen, 1)
    assert stubbed == [(8, 0)]
    sweep(None, Config(), tmp_path / "out", [*chosen, {"model.units": 2}], 2)
    assert stubbed == [(8, 0), (8, 1), (2, 0), (2, 1)]
    with pytest.raises(ConfigError, match="no run came to an end"):
        sweep(None, Config(), tmp_path / "none", [{"model.units": 3}], 2)


def test_rewarded_settings_are_compared_by_the_score_that_chose_their_epochs(stubbed, tmp_path):
    config, chosen = Config().replace({"training.reward.sides": 1}), [{"model.units": units} for units in (8, 2)]
    rows = sweep(None, config, tmp_path / "out", chosen, 2)
    assert [row["system"] for row in rows] == ["model.units=2", "model.units=8", "constant"]
    assert shown(rows, config.training.watched)[0]["val_reward"].startswith("1.300 ± ")
    rewards = [{"training.reward.sides": weight} for weight in (0, 1)]
    for recipe, tried in ((Config(), rewards), (config, rewards[:1]), (Config(), rewards[1:])):
        with pytest.raises(ConfigError, match=r"other rewards are other scores; add --set training\.monitor="):
            sweep(None, recipe, tmp_path / "other", tried, 2)
    assert not (tmp_path / "other").exists()


def test_a_sweep_takes_no_folder_of_others_and_no_impossible_setting(stubbed, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds no sweep"):
        sweep(None, Config(), tmp_path, [{}], 1)
    odd = [{"model.decoder": "transformer", "model.units": 9}]
    with pytest.raises(ConfigError, match="8 heads cannot divide"):
        sweep(None, Config(), tmp_path / "out", odd, 1)
    assert stubbed == []


@pytest.mark.slow
def test_the_command(phantoms, tiny_config, tiny_encoder_run, tiny_cache, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["sweep", "--data", phantoms, "--out", out, "--cache", tiny_cache]
    line += ["--preset", "phantom_attention", "--encoder", tiny_encoder_run, "--seeds", 2]
    for name, value in {**tiny_config.to_dict(), "training.epochs": 1}.items():
        line += ["--set", f"{name}={json.dumps(value)}"]
    line += ["--grid", "model.units=8"]
    tables = []
    for _ in range(2):
        assert main([str(word) for word in line]) == 0
        tables.append((out / "sweep.csv").read_text())
    assert tables[0] == tables[1]
    assert len(list(out.glob("model.units=8/seed-?/manifest.json"))) == 2
    assert re.search(r"model\.units=8 +2 +\d\.\d{3} ± ", capsys.readouterr().out)
    runs = json.loads((out / "metrics.json").read_text())["runs"]["model.units=8 greedy"]
    row = next(csv.DictReader(tables[0].splitlines()))
    assert float(row["CIDEr"]) == pytest.approx(np.mean([run["CIDEr"] for run in runs]))
