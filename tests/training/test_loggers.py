"""Programs that draw runs get the numbers of the log, and a run that goes on is one run there."""

import os
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from xray_captioning.backend import keras
from xray_captioning.config import Config
from xray_captioning.errors import ConfigError, MissingExtraError
from xray_captioning.training import loggers
from xray_captioning.training.loggers import LOGGERS, check_callbacks, logging

ROWS = [{"loss": 2.0, "learning_rate": 1e-3}, {"loss": 1.0, "learning_rate": 5e-4}]


def log_run(name, out):
    """Log two epochs by two processes, the second of which goes on."""
    pytest.importorskip(name)
    for epoch, row in enumerate(ROWS):
        with logging(name, out, Config()) as callback:
            callback.set_model(keras.Sequential([keras.layers.Dense(1)]))
            callback.model.compile("sgd", "mse")
            callback.set_params({"epochs": 2})
            callback.on_train_begin()
            callback.on_epoch_begin(epoch)
            callback.on_epoch_end(epoch, dict(row))
            callback.on_train_end()


def test_tensorboard_shows_the_log(tmp_path):
    log_run("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
    from tensorboard.util.tensor_util import make_ndarray

    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "tensorboard")).Reload()
    found = [(e.step, float(make_ndarray(e.tensor_proto))) for e in runs.Tensors("train", "epoch_loss")]
    assert found == [(0, 2.0), (1, 1.0)]


def test_mlflow_shows_the_log_of_one_run_and_its_configuration(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    log_run("mlflow", tmp_path)
    assert not list((tmp_path / "here").iterdir())
    import mlflow

    before = mlflow.get_tracking_uri()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
    experiments = [found.experiment_id for found in client.search_experiments()]
    (run,) = client.search_runs(experiments)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.decoder"] == "global_attention"
    assert [m.value for m in client.get_metric_history(run.info.run_id, "loss")] == [2.0, 1.0]
    assert mlflow.get_tracking_uri() == before


def test_wandb_keeps_a_run_that_is_never_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")  # a user's own; images of patients stay nevertheless
    log_run("wandb", tmp_path)
    folders = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert len({folder.name.rpartition("-")[2] for folder in folders}) == 1
    assert len(folders) == 2
    assert all(list(folder.glob("*.wandb")) for folder in folders)


def test_programs_are_forbidden_to_report_their_use(tmp_path, monkeypatch):
    names, seen = ("MLFLOW_DISABLE_TELEMETRY", "WANDB_ERROR_REPORTING"), []
    for name in names:
        monkeypatch.delenv(name, raising=False)
    note = lambda *_, **__: seen.append([os.environ.get(name) for name in names]) or nullcontext()  # noqa: E731
    monkeypatch.setattr(loggers, "require", note)  # MLflow asks while it is imported
    check_callbacks(["mlflow"])
    keras_part = SimpleNamespace(WandbMetricsLogger=lambda: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=note, Settings=dict))
    monkeypatch.setitem(sys.modules, "wandb.integration.keras", keras_part)
    with logging("wandb", tmp_path, Config()):
        assert seen == [["true", "false"]] * 2
        assert not any(name in os.environ for name in names)


def test_what_is_no_callback_is_named():
    check_callbacks([keras.callbacks.TerminateOnNaN()])
    for wrong in (["tensorbord"], [3], "tensorboard"):
        with pytest.raises(ConfigError, match="callbacks: expected a list of a Keras callback or"):
            check_callbacks(wrong)


@pytest.mark.parametrize("name", LOGGERS)
def test_a_program_that_is_not_there_is_asked_for(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"{name} is needed .*xray-captioning\[{name}\]"):
        check_callbacks([name])
