"""Runs that go on: for more epochs, beside others, and without an encoder that is given."""

import io
import json

import numpy as np
import pytest

from xray_captioning.backend import keras, ops, seeded
from xray_captioning.bundles.bundle import read_config
from xray_captioning.captioner.captioner import Captioner
from xray_captioning.cli import main
from xray_captioning.config import Config
from xray_captioning.data.datasets import BatchDataset
from xray_captioning.data.provenance import TrainedOn
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split
from xray_captioning.encoders.saved import weights_digest
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.training import captions
from xray_captioning.training.captions import compile_model, fit, train
from xray_captioning.training.encoder import train_encoder
from xray_captioning.training.run_folder import RUN, STATE, RunFolder, check_folder
from xray_captioning.training.run_state import RunState

pytestmark = pytest.mark.usefixtures("eagerly")
SPLIT = Split(("1",), ("2",), ("3",))


@pytest.fixture
def studies(phantoms):
    return read_studies(phantoms)


def log(run):
    """Return the text of a log without its last column, how long an epoch took."""
    return "\n".join(line.rpartition(",")[0] for line in (run / "log.csv").read_text().splitlines())


class Killed(keras.callbacks.Callback):
    """Stop in an epoch, from 0, as a kill does: nothing more is written."""

    def __init__(self, epoch):
        super().__init__()
        self.at = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.at:
            raise KeyboardInterrupt


@pytest.fixture
def run(studies, tmp_path, monkeypatch):
    """Fit a line with noise as captioners and encoders are fitted."""
    monkeypatch.setattr(captions, "save", lambda *_: None)
    x = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")

    def fitted(name, epochs, resume=False, kill=None, **changes):
        values = {f"training.{key}": value for key, value in changes.items()}
        config = Config().replace({"training.epochs": epochs, "training.batch_size": 4, **values})
        with RunFolder(tmp_path / name, config, resume) as run, seeded(0):
            run.claim(studies, SPLIT, "none")
            model = keras.Sequential([keras.layers.Dropout(0.3, seed=1), keras.layers.Dense(1)])
            model.build((None, 4))
            rows = lambda numbers, rng, index: (x[numbers], x[numbers, :1] + 1)  # noqa: E731
            data = {"train": BatchDataset(rows, 12, 4, 0), "val": BatchDataset(rows, 12, 4, None)}
            compile_model(model, "mse", config.training, len(data["train"]), run.start)
            fit(model, data, run, config.training, [] if kill is None else [Killed(kill)])
        return log(tmp_path / name)

    return fitted


def test_with_a_constant_rate_an_extended_run_is_one_that_was_planned_so_long(run):
    whole = run("whole", 4, schedule="constant")
    run("finished", 2, schedule="constant")
    assert run("finished", 4, resume=True, schedule="constant") == whole
    with pytest.raises(KeyboardInterrupt):
        run("killed", 3, schedule="constant", kill=1)
    assert run("killed", 4, resume=True, schedule="constant") == whole


def test_an_extension_that_is_killed_goes_on_as_an_unbroken_one(run, tmp_path):
    first = run("whole", 2)
    whole = run("whole", 5, resume=True)
    assert whole.startswith(first)
    assert json.loads((tmp_path / "whole" / RUN).read_text())["start"] == 2
    run("killed", 2)
    for epoch in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            run("killed", 5, resume=True, kill=epoch)
    assert run("killed", 5, resume=True) == whole
    assert run("killed", 5, resume=True) == whole  # finished


def test_a_run_that_was_killed_as_it_began_goes_on(run, tmp_path):
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / RUN).touch()
    (tmp_path / "killed" / ".state.half.npz").touch()
    with pytest.raises(ConfigError, match="holds a run already; go on with --resume"):
        run("killed", 2)
    assert run("killed", 2, resume=True) == run("whole", 2)
    assert not list((tmp_path / "killed").glob(".*"))


def test_a_run_that_is_extended_before_its_first_epoch_is_as_planned_so_long(run):
    with pytest.raises(KeyboardInterrupt):
        run("killed", 2, kill=0)
    assert run("killed", 3, resume=True) == run("whole", 3)


@pytest.mark.parametrize("start", [0, 3])
def test_the_schedule_starts_over_where_a_run_was_extended(start):
    training = Config().replace({"training.epochs": 8}).training
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 1))
    compile_model(model, "mse", training, 10, start)
    schedule = model.optimizer._learning_rate  # Keras evaluates the public one
    same = type(schedule).from_config(schedule.get_config())
    for steps, rate in ((0, 0.1), (10, 1.0), (10 + (70 - 10 * start) / 2, 0.5), (80 - 10 * start, 0)):
        for one in (schedule, same):
            found = float(ops.convert_to_numpy(one(10 * start + steps)))
            assert found == pytest.approx(1e-3 * rate, abs=1e-9)


def test_only_more_epochs_are_another_plan(run, studies, tmp_path):
    before = run("run", 2)
    refused = {"epochs 2, not 1": {"epochs": 1}, "seed 0, not 3": {"epochs": 3, "seed": 3}}
    for message, changes in refused.items():
        with pytest.raises(ConfigError, match=rf"was started with training\.{message}"):
            run("run", resume=True, **changes)
    for changes, hint in (
        ({"name": "chexnet_attention"}, "--preset chexnet_attention"),
        ({"fractions": (0.5, 0.3, 0.2)}, r"--set 'fractions=\[0\.5, 0\.3, 0\.2\]'"),
    ):
        folder = tmp_path / hint[6:9]
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"config": Config().replace(changes).to_dict()}), "utf-8")
        with pytest.raises(ConfigError, match=f"; resume with {hint}, or"):
            check_folder(folder, Config(), True)
    config = Config().replace({"training.epochs": 3, "training.batch_size": 4})
    other = RunFolder(tmp_path / "run", config, True)
    with pytest.raises(ConfigError, match="started with other split and weights"), other:
        other.claim(studies, Split(("1",), ("2",), ("4",)), "others")
    assert log(tmp_path / "run") == before
    assert json.loads((tmp_path / "run" / RUN).read_text())["config"]["training"]["epochs"] == 2
    with pytest.raises(ConfigError, match="devices is 'two'; give one or all"):
        RunFolder(tmp_path / "other", config, False, devices="two")
    odd = io.BytesIO()
    np.savez(odd, history='["epoch"]')
    for damaged in (b"damaged", b"", odd.getvalue()):
        (tmp_path / "run" / STATE).write_bytes(damaged)
        with pytest.raises(BundleError, match="not a state of this run"):
            run("run", 3, resume=True)


def test_patience_is_counted_anew_in_an_extension(tmp_path):
    state = RunState(tmp_path, None, "loss", 2)
    state.history = [{"loss": loss} for loss in (1.0, 2.0, 3.0)]
    assert state.finished
    state.start = 3
    assert not state.finished
    state.history += [{"loss": 2.0}] * 2
    assert state.finished
    assert state.best == 0


def test_of_two_runs_that_find_a_folder_empty_the_second_leaves_it_to_the_first(studies, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    runs = [RunFolder(out, Config(), False) for _ in range(3)]
    runs[0].claim(studies, SPLIT, "none")
    with pytest.raises(ConfigError, match="another run has begun here"), runs[1]:
        runs[1].claim(studies, SPLIT, "none")
    with pytest.raises(DataError), runs[2]:
        raise DataError("found before the folder is claimed")
    assert (out / RUN).is_file()
    with pytest.raises(DataError), runs[0]:
        raise DataError("found after it")
    assert out.is_dir()
    assert not any(out.iterdir())


@pytest.mark.parametrize("fit", [train, train_encoder])
def test_a_run_without_an_encoder_draws_the_same_weights_again(
    fit, studies, tiny_config, tiny_cache, tmp_path, monkeypatch
):
    changes = {
        f"{group}.{name}": n for group in ("training", "encoder_training") for name, n in (("epochs", 2), ("seed", 5))
    }
    config, found = tiny_config.replace(changes), []

    def killed(model, data, run, training, *_):
        found.append([ops.convert_to_numpy(weight) for weight in model.weights])
        raise KeyboardInterrupt

    monkeypatch.setattr(f"{fit.__module__}.fit", killed)
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            fit(studies, config, tmp_path / "run", cache=tiny_cache, resume=resume)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def further(studies, tiny_config, tiny_cache, tiny_run, tmp_path, monkeypatch):
    """Start from the tiny run with words it has not, and stop before the first step."""
    monkeypatch.setattr(captions, "_fit", lambda *_: None)
    texts = [f"{text} and zebra stripes" for text in studies["impression"]]

    def begin(bundle=tiny_run, texts=texts, **options):
        changes = options.pop("changes", {})
        own = {"cache": tiny_cache, "measured": False, "start_from": bundle}
        config, given = tiny_config.replace(changes), studies.assign(impression=texts)
        return train(given, config, tmp_path / "further", **{**own, **options})

    return begin


def test_a_run_starts_from_another_with_new_words_added(further, tiny_run):
    old, new = Captioner.load(tiny_run), further()
    assert new.tokenizer.words[: len(old.tokenizer.words)] == old.tokenizer.words
    assert set(new.tokenizer.words) - set(old.tokenizer.words) == {"and", "stripes", "zebra"}
    assert weights_digest(new.encoder) == weights_digest(old.encoder)
    count = old.tokenizer.vocabulary_size
    longer = []
    for one, other in zip(new.model.weights, old.model.weights, strict=True):
        one, other = ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        np.testing.assert_array_equal(one[tuple(map(slice, other.shape))], other)
        longer += [one.shape] if one.shape != other.shape else []
    assert sorted(longer) == [(16, count + 3), (count + 3,), (count + 3, 12)]


def test_what_a_run_starts_from_counts_as_its_training(further, studies, tiny_run):
    first, found = TrainedOn.load(tiny_run), further().trained_on
    assert found.reports > first.reports
    assert found.studies == first.studies
    split = first.split
    turned = Split(split.test, split.val, split.train)
    own = {"split": turned, "texts": studies["impression"], "resume": True}
    with pytest.raises(ConfigError, match=f"was trained on {len(split.train)} of the test"):
        further(**own)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.units": 8}, "model.units is 16 there, but this run asks for 8; add --set"),
        ({"model.decoder": "gru"}, "model.decoder is 'global_attention' there"),
        ({"image.views": 1}, "image.views is 2 there"),
        ({"image.size": 96}, "image.size is 64 there"),
    ],
)
def test_a_decoder_of_another_shape_is_refused(further, changes, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        further(changes=changes)
    assert not (tmp_path / "further").exists()


def test_what_cannot_start_a_captioner_is_refused(further, tiny_encoder_run):
    with pytest.raises(BundleError, match="holds an encoder only"):
        further(tiny_encoder_run)
    for other in ({"encoder": tiny_encoder_run}, {"weights": "random"}):
        with pytest.raises(ConfigError, match="leave out the encoder and weights"):
            further(**other)


def test_the_settings_of_a_bundle_count_where_no_preset_is_named(tiny_run, phantoms, monkeypatch):
    seen = []
    monkeypatch.setattr(captions, "train", lambda studies, config, *_, **__: seen.append(config))
    line = ["train", "--data", phantoms, "--out", "x", "--start-from", tiny_run]
    for more in ([], ["--preset", "lite_attention"]):
        with pytest.raises(AttributeError):  # of what is said of the captioner, here None
            main([*map(str, line), *more, "--set", "training.epochs=1"])
    expected = read_config(tiny_run, "captioner").replace({"training.epochs": 1})
    assert [seen[0], seen[1].name] == [expected, "lite_attention"]
