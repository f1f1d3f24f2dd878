"""The folder of a training run: checked before work begins, and claimed by one run."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import convert

from xray_captioning.config import Config, presets
from xray_captioning.data.outlines import FILE
from xray_captioning.data.splits import Split, data_digest
from xray_captioning.data.studies import Studies
from xray_captioning.errors import BundleError, ConfigError, XrayCaptioningError, one_error
from xray_captioning.files import atomic_write, sha256_file

RUN = "run.json"
STATE = "state.npz"  # written at the end of each epoch, see `run_state`: its last weights


@dataclass
class RunFolder(AbstractContextManager["RunFolder"]):
    """A run's folder, checked before work begins; where the work is refused later, none is left."""

    # Some mistakes in the data show only after the run has claimed its folder; until its first epoch is written there
    # is nothing to resume. `start` is the epoch, from 0, with which the plan of a run that was extended begins.
    # `group` of the configuration has the number of epochs; `callbacks` and `devices` are as `train` takes them.

    out: Path
    config: Config
    resume: bool
    group: str = "training"
    callbacks: Sequence[Any] = ()
    devices: str = "one"
    start = 0
    _claimed = False

    def __post_init__(self) -> None:
        from xray_captioning.training.loggers import check_callbacks  # brings Keras

        if not isinstance(self.config, Config):
            kind = type(self.config).__name__
            raise ConfigError(f"expected a configuration, got {kind}; give one of load_preset or Config.from_dict")
        if self.devices not in ("one", "all"):
            raise ConfigError(f"devices is {self.devices!r}; give one or all")
        check_callbacks(self.callbacks)
        check_folder(self.out, self.config, self.resume, self.group)
        self._existed, self._resumed = self.out.is_dir(), (self.out / RUN).is_file()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, (XrayCaptioningError, OSError)) and self._claimed and not (self.out / STATE).is_file():
            shutil.rmtree(self.out, ignore_errors=True)
            if self._existed:
                self.out.mkdir()

    def claim(self, studies: Studies, split: Split, weights: str) -> None:
        """Make the folder this run's own, or check that it is, and extend it where asked; it starts from `weights`."""
        values = {"group": self.group, "data": data_digest(studies), "split": split.digest, "weights": weights}
        if (read := self.config.text.context) and self.group == "training":
            values["context"] = data_digest(studies, [kind for kind in read if kind in studies])
        if self.group == "encoder_training" and self.config.encoder_training.region_weight:
            values["outlines"] = sha256_file(studies.attrs[FILE]) if FILE in studies.attrs else ""
        run: dict[str, Any] = {"config": self.config.to_dict(), **values}
        if not self._resumed:
            self.out.mkdir(parents=True, exist_ok=True)
            try:  # two runs may have found the folder empty; only one of them makes this file
                (self.out / RUN).touch(exist_ok=False)
            except FileExistsError:
                raise ConfigError(f"{self.out}: another run has begun here meanwhile; choose another --out") from None
            self._claimed = True
        for left in (*self.out.glob(".state.*"), *self.out.glob(".best.*")):  # half written, by a run that was killed
            left.unlink()
        if saved := _read_run(self.out):
            if different := sorted(name for name in values if values[name] != saved.get(name, values[name])):
                advice = "resume with the same data and options, or choose another --out"
                raise ConfigError(f"{self.out}: was started with other {' and '.join(different)}; {advice}")
            self.start = saved.get("start", 0)
            if Config.from_dict(saved["config"]).flat() == self.config.flat():
                return
            with open_state(self.out) as (history, _):  # it is extended
                run["start"] = self.start = len(history)
        atomic_write(self.out / RUN, json.dumps(run, indent=2) + "\n")


def check_folder(out: Path, config: Config, resume: bool, group: str = "training") -> None:
    """Raise a ConfigError if a run with this configuration can neither start nor go on here."""
    # It may go on for more epochs than it was started with; all else has to be as it was.
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / RUN).is_file():
        raise ConfigError(f"{out}: is not empty and holds no run; choose another --out")
    if not resume:
        raise ConfigError(f"{out}: holds a run already; go on with --resume or choose another --out")
    if not (saved := _read_run(out)):
        return
    if saved.get("group", group) != group:
        raise ConfigError(f"{out}: holds a run of `train{'-encoder' * (group == 'training')}`; choose another --out")
    asked, found = config.flat(), Config.from_dict(saved.get("config", {}), str(out / RUN)).flat()
    for name in asked:
        if asked[name] != found[name] and not (name == f"{group}.epochs" and asked[name] > found[name]):
            known = name == "name" and found[name] in presets()
            told = f"--preset {found[name]}" if known else f"--set '{name}={json.dumps(found[name])}'"
            advice = f"resume with {told}, or choose another --out"
            raise ConfigError(f"{out}: was started with {name} {found[name]}, not {asked[name]}; {advice}")


def _read_run(out: Path) -> dict[str, Any]:
    """Return what a run was started with, nothing if it was stopped as it began."""
    try:
        return dict(json.loads((out / RUN).read_text("utf-8") or "{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{out / RUN}: is damaged; choose another --out") from error


@contextmanager
def open_state(out: Path) -> Iterator[tuple[list[dict[str, float]], Any]]:
    """Read a run's log, a row an epoch, and its arrays by number; damage is a BundleError."""
    if not (path := out / STATE).is_file():
        yield [], {}
        return
    otherwise = one_error(BundleError, f"{path}: not a state of this run ({{error}}); start again")
    with otherwise, np.load(path, allow_pickle=False) as saved:
        yield convert(json.loads(str(saved["history"])), list[dict[str, int | float]]), saved
