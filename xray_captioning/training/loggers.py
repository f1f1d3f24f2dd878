"""Programs that draw how runs go: TensorBoard, MLflow, Weights & Biases, by their own callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from xray_captioning.backend import keras
from xray_captioning.config import Config
from xray_captioning.errors import ConfigError, require
from xray_captioning.files import unreported

PROJECT = "xray-captioning"


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """Raise a ConfigError unless each is a Keras callback or a name of :data:`LOGGERS`."""
    known = f"a Keras callback or one of {', '.join(LOGGERS)}"
    for given in [callbacks] if isinstance(callbacks, str) else callbacks:
        if isinstance(given, str) and given in LOGGERS and not isinstance(callbacks, str):
            with unreported():
                require(given, f"logging to {given}", given)
        elif not isinstance(given, keras.callbacks.Callback):
            raise ConfigError(f"callbacks: expected a list of {known}, got {given!r:.40}")


def logging(callback: Any, out: Path, config: Config) -> AbstractContextManager[Any]:
    """Return a context with a callback; one that is named writes into a folder of that name.

    Nothing is sent anywhere. A run that goes on is the same run in what is written.
    """
    if not isinstance(callback, str):
        return nullcontext(callback)
    (folder := out / callback).mkdir(exist_ok=True)
    return LOGGERS[callback](folder, config)


@contextmanager
def _tensorboard(folder: Path, config: Config) -> Iterator[Any]:
    yield keras.callbacks.TensorBoard(folder, write_graph=False)


@contextmanager
def _mlflow(folder: Path, config: Config) -> Iterator[Any]:
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
    try:
        known = mlflow.get_experiment_by_name(PROJECT)
        if known is None:  # files of its own would else be put where the program was started
            mlflow.create_experiment(PROJECT, (folder / "artifacts").resolve().as_uri())
        mlflow.set_experiment(PROJECT)
        runs = mlflow.search_runs(output_format="list", max_results=1)
        given = {"run_id": runs[0].info.run_id} if runs else {"run_name": config.name}
        with mlflow.start_run(**given):
            if not runs:
                mlflow.log_params(config.flat())
            yield mlflow.keras.MlflowCallback()
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def _wandb(folder: Path, config: Config) -> Iterator[Any]:
    import wandb
    from wandb.integration.keras import WandbMetricsLogger

    known = sorted(folder.glob("offline-run-*"))  # a run that goes on has another, of the same id
    own = {"id": known[0].name.rpartition("-")[2], "resume": "allow"} if known else {}
    quiet = wandb.Settings(silent=True, console="off", disable_git=True)
    about = {"project": PROJECT, "name": config.name, "config": config.flat()}
    with unreported():
        run = wandb.init(dir=folder.parent, mode="offline", settings=quiet, **about, **own)
    with run:
        yield WandbMetricsLogger()


LOGGERS: dict[str, Callable[[Path, Config], AbstractContextManager[Any]]]
LOGGERS = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
