"""The files of a training run, from which it goes on after it was stopped at any moment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from xray_captioning.backend import keras
from xray_captioning.config import Config
from xray_captioning.data.datasets import BatchDataset
from xray_captioning.data.splits import Split, data_digest
from xray_captioning.errors import BundleError, ConfigError, XrayCaptioningError
from xray_captioning.evaluation.table import format_csv
from xray_captioning.files import atomic_path, atomic_write

if TYPE_CHECKING:
    import pandas as pd

RUN = "run.json"
BEST = "best.weights.h5"
STATE = "state.npz"


class RunState(keras.callbacks.Callback):
    """Log, best weights, early stopping and a resumable state, written at the end of each epoch.

    Losses after :meth:`restore` are those of a run that was never stopped: every weight, the
    optimizer, the dropout seeds and the order of `dataset`, whose epoch is set, go on from where
    they were. The loss called `monitor` decides which epoch is best; training stops after
    `patience` epochs without improvement.
    """

    def __init__(self, folder: Path, dataset: BatchDataset, monitor: str, patience: int) -> None:
        super().__init__()
        self.folder, self.dataset = folder, dataset
        self.monitor, self.patience = monitor, patience
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> int:
        """Index of the best epoch so far, -1 before the first."""
        losses = [row[self.monitor] for row in self.history]
        return int(np.argmin(losses)) if losses else -1

    @property
    def finished(self) -> bool:
        """Whether no epoch of the last `patience` ones was better than the best before them."""
        return len(self.history) - 1 - self.best >= self.patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Tell the dataset which order to use."""
        self.dataset.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write best weights first, then the state that names them, then the log."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **values})
        if not np.isfinite(values[self.monitor]):
            raise BundleError(
                f"{self.folder}: the loss became {values[self.monitor]} in epoch {epoch + 1}; "
                "lower training.learning_rate"
            )
        if self.best == epoch:
            with atomic_path(self.folder / BEST) as temporary:
                self.model.save_weights(temporary)
        self._write_state()
        self._write_log()
        if self.finished:
            self.model.stop_training = True

    def restore(self, model: Any) -> int:
        """Load the state of a stopped run into a compiled model; return how many epochs it had."""
        path = self.folder / STATE
        if not path.is_file():
            return 0
        variables = _variables(model)
        try:
            with np.load(path, allow_pickle=False) as saved:
                self.history = json.loads(str(saved["history"]))
                values = [saved[str(i)] for i in range(len(variables))]
            for variable, value in zip(variables, values):
                variable.assign(value)
        except (ValueError, KeyError, OSError, EOFError, BadZipFile) as error:
            reason = str(error).splitlines()[0][:120]
            raise BundleError(f"{path}: not a state of this run ({reason}); start again") from error
        self._write_log()  # a kill may have come between the state and the log
        return len(self.history)

    def _write_state(self) -> None:
        variables = enumerate(_variables(self.model))
        values = {str(i): keras.ops.convert_to_numpy(v) for i, v in variables}
        with atomic_path(self.folder / STATE) as temporary, open(temporary, "wb") as file:
            np.savez(file, history=json.dumps(self.history), **values)

    def _write_log(self) -> None:
        atomic_write(self.folder / "log.csv", format_csv(self.history, list(self.history[0])))


def _variables(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


@contextmanager
def epoch_bar(done: int, epochs: int) -> Iterator[keras.callbacks.Callback]:
    """Show one progress bar over all epochs, where there is a terminal."""
    from tqdm import tqdm

    def show(epoch: int, logs: dict[str, float]) -> None:
        bar.update()
        bar.set_postfix({name: f"{value:.3f}" for name, value in logs.items() if "loss" in name})

    with tqdm(total=epochs, initial=done, desc="train", unit="epoch", disable=None) as bar:
        yield keras.callbacks.LambdaCallback(on_epoch_end=show)


@contextmanager
def run_folder(out: Path, config: Config, resume: bool) -> Iterator[None]:
    """Check a run's folder before work begins, and leave nothing in it where the work is refused.

    Some mistakes in the data show only after the run has claimed its folder; until its first
    epoch is written there is nothing to resume.
    """
    _check_folder(out, config, resume)
    existed, resumed = out.is_dir(), (out / RUN).is_file()
    try:
        yield
    except (XrayCaptioningError, OSError):
        if not resumed and not (out / STATE).is_file():
            shutil.rmtree(out, ignore_errors=True)
            if existed:
                out.mkdir()
        raise


def _check_folder(out: Path, config: Config, resume: bool) -> None:
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / RUN).is_file():
        raise ConfigError(f"{out}: is not empty and holds no run; choose another --out")
    if not resume:
        raise ConfigError(
            f"{out}: holds a run already; go on with --resume or choose another --out"
        )
    saved = Config.from_dict(_read_run(out).get("config", {}), str(out / RUN))
    asked, found = (dict(_flat(values.to_dict())) for values in (config, saved))
    for name in asked:
        if asked[name] != found[name]:
            raise ConfigError(
                f"{out}: was started with {name} {found[name]}, not {asked[name]}; "
                f"resume with --set {name}={json.dumps(found[name])}, or choose another --out"
            )


def _read_run(out: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((out / RUN).read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{out / RUN}: is damaged; choose another --out") from error


def _flat(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for group, value in values.items():
        if isinstance(value, dict):
            yield from ((f"{group}.{name}", item) for name, item in value.items())
        else:
            yield group, value


def claim_run(out: Path, config: Config, studies: pd.DataFrame, split: Split, weights: str) -> None:
    """Make a folder that :func:`run_folder` has checked this run's own, or check that it is.

    `weights` says what the run starts from: a digest or a name.
    """
    values = {
        "config": config.to_dict(),
        "data": data_digest(studies),
        "split": split.digest,
        "weights": weights,
    }
    if not (out / RUN).is_file():
        atomic_write(out / RUN, json.dumps(values, indent=2) + "\n")
        return
    saved = _read_run(out)
    different = sorted(name for name in values if values[name] != saved.get(name))
    if different:
        raise ConfigError(
            f"{out}: was started with other {' and '.join(different)}; "
            "resume with the same data and options, or choose another --out"
        )
