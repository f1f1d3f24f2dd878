"""The files of a training run, from which it goes on after it was stopped at any moment."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from xray_captioning.backend import keras
from xray_captioning.data.datasets import BatchDataset
from xray_captioning.encoders.saved import save_weights
from xray_captioning.errors import BundleError
from xray_captioning.evaluation.table import format_csv
from xray_captioning.files import atomic_path, atomic_write
from xray_captioning.training.run_folder import STATE, open_state

BEST = "best.weights.h5"


class RunState(keras.callbacks.Callback):
    """Log, best weights, early stopping and a resumable state, written at the end of each epoch."""

    # Losses after `restore` are those of a run that was never stopped: every weight, the optimizer, the dropout seeds
    # and the order of `dataset`, whose epoch is set, go on from where they were. `monitor` decides which epoch is best,
    # the lowest loss or the highest score; training stops after `patience` epochs without improvement, which are
    # counted anew where a run is extended.
    def __init__(self, folder: Path, dataset: BatchDataset, monitor: str, patience: int, start: int = 0) -> None:
        super().__init__()
        self.folder, self.dataset, self.start = folder, dataset, start
        self.monitor, self.patience = monitor, patience
        self.history: list[dict[str, float]] = []

    @property
    def best(self) -> int:
        """Index of the best epoch so far, -1 before the first."""
        values = [row[self.monitor] for row in self.history]
        return int((np.argmin if self.monitor.endswith("loss") else np.argmax)(values)) if values else -1

    @property
    def finished(self) -> bool:
        """Whether no epoch of the last `patience` ones was better than the best before them."""
        return len(self.history) - max(self.best + 1, self.start) >= self.patience

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.dataset.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write best weights first, then the state that names them, then the log."""
        found = {name: float(value) for name, value in (logs or {}).items()}
        self.history.append({"epoch": epoch + 1, **found})
        for name in ("loss", self.monitor):
            if not np.isfinite(found[name]):
                raise BundleError(f"{self.folder}: {name} became {found[name]} in epoch {epoch + 1}; lower its rate")
        if self.best == epoch:
            with atomic_path(self.folder / BEST) as temporary:
                save_weights(self.model, temporary)
        values = {str(i): keras.ops.convert_to_numpy(v) for i, v in enumerate(_variables(self.model))}
        with atomic_path(self.folder / STATE) as temporary, open(temporary, "wb") as file:
            np.savez(file, history=json.dumps(self.history), **values)
        self._write_log()
        if self.finished:
            self.model.stop_training = True

    def restore(self, model: Any) -> int:
        """Load the state of a stopped run into a compiled model; return how many epochs it had."""
        with open_state(self.folder) as (self.history, saved):
            for number, variable in enumerate(_variables(model) if self.history else ()):
                variable.assign(saved[str(number)])
        if self.history:
            self._write_log()  # a kill may have come between the state and the log
        return len(self.history)

    def _write_log(self) -> None:
        names = list(dict.fromkeys(name for row in self.history for name in row))
        atomic_write(self.folder / "log.csv", format_csv(self.history, names))


def _variables(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]
