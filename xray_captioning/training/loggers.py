"""What a run tells while it trains: lines and a bar, and files for TensorBoard, MLflow, Weights & Biases."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from xray_captioning.backend import describe_devices, keras, ops
from xray_captioning.config import Config
from xray_captioning.data.datasets import BatchDataset
from xray_captioning.errors import ConfigError, require
from xray_captioning.files import progress, say, unreported

PROJECT = "xray-captioning"
FIRST = 10  # after so many batches the time of the whole run is estimated
FORWARD = 3  # a batch of validation is computed in about this part of the time of training


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
    """Return a context with a callback; one that is named writes into a folder of that name, and sends nothing."""
    # A run that goes on is the same run in what is written.
    if not isinstance(callback, str):
        return nullcontext(callback)
    (folder := out / callback).mkdir(exist_ok=True)
    return LOGGERS[callback](folder, config)


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
        with mlflow.start_run(**({"run_id": runs[0].info.run_id} if runs else {"run_name": config.name})):
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


LOGGERS: dict[str, Callable[[Path, Config], AbstractContextManager[Any]]] = {
    "tensorboard": lambda folder, _: nullcontext(keras.callbacks.TensorBoard(folder, write_graph=False)),
    "mlflow": _mlflow,
    "wandb": _wandb,
}


class Watcher(keras.callbacks.Callback):
    """Says on standard error how training goes, and adds rate and seconds to an epoch's logs."""

    # Rates are of training alone, seconds of the whole epoch with validation and what other callbacks do.
    # The time left is at most that: patience may end a run sooner.
    def __init__(self, train: BatchDataset, val: BatchDataset | None, precision: str) -> None:
        super().__init__()
        self.train, self.validated, self.precision = train, len(val) if val else 0, precision
        self.batches: list[float] = []  # when each batch of an epoch was done
        self.estimated, self.bar = False, progress(disable=True)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.ended = time.monotonic()
        say(f"training on {describe_devices()}, in {self.precision}")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.began, self.batches = time.monotonic(), []
        self.left, self.name = self.params["epochs"] - epoch, f"epoch {epoch + 1}/{self.params['epochs']}"
        self.bar = progress(total=len(self.train) + self.validated, desc=self.name, unit="batch", leave=False)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.batches.append(time.monotonic())
        if logs and batch % FIRST == 0:  # reading a number waits for a GPU
            self.bar.set_postfix_str(f"loss {float(logs['loss']):.3f}", refresh=False)
        self.bar.update()
        if len(self.batches) == FIRST and not self.estimated:
            self.estimated = True
            step = (self.batches[-1] - self.batches[0]) / (FIRST - 1)  # the first one compiles
            seconds = self.left * step * (len(self.train) + self.validated / FORWARD)
            say(f"about {duration(seconds)} for {self.left} epochs, by the first {FIRST} batches")

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.bar.close()
        assert logs is not None  # Keras always gives some
        seconds, self.ended = time.monotonic() - self.ended, time.monotonic()
        learned = self.train.studies / max(self.batches[-1] - self.began, 1e-9)
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        losses = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
        left = f"{duration((self.left - 1) * seconds)} left" if self.left > 1 else "the last"
        pace = f"learning rate {rate:.3g}, {duration(seconds)}, {learned:.3g} studies/s"
        logs |= {"learning_rate": rate, "seconds": round(seconds, 3)}
        say(f"{self.name}: {losses}, {pace}, {left}")


def duration(seconds: float) -> str:
    """Return a time in words, such as 40 s, 12 min or 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
