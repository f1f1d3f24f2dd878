"""The folder of a training run: checked before work begins, and claimed by one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from xray_captioning.config import Config
from xray_captioning.data.splits import Split, data_digest
from xray_captioning.errors import ConfigError, XrayCaptioningError
from xray_captioning.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

RUN = "run.json"
STATE = "state.npz"  # written at the end of each epoch, see `run_state`


class Run(NamedTuple):
    """A run's folder and configuration, who else is told how it goes, and on what devices."""

    out: Path
    config: Config
    callbacks: Sequence[Any] = ()
    devices: str = "one"


@contextmanager
def run_folder(out: Path, config: Config, resume: bool) -> Iterator[None]:
    """Check a run's folder before work begins, and leave nothing in it where the work is refused.

    Some mistakes in the data show only after the run has claimed its folder; until its first
    epoch is written there is nothing to resume.
    """
    if not isinstance(config, Config):
        raise ConfigError(
            f"expected a configuration, got {type(config).__name__}; give what load_preset or Config.from_dict returns"
        )
    check_folder(out, config, resume)
    existed, resumed = out.is_dir(), (out / RUN).is_file()
    try:
        yield
    except (XrayCaptioningError, OSError):
        if not resumed and not (out / STATE).is_file():
            shutil.rmtree(out, ignore_errors=True)
            if existed:
                out.mkdir()
        raise


def check_folder(out: Path, config: Config, resume: bool) -> None:
    """Raise a ConfigError if a run with this configuration can neither start nor go on here."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / RUN).is_file():
        raise ConfigError(f"{out}: is not empty and holds no run; choose another --out")
    if not resume:
        raise ConfigError(f"{out}: holds a run already; go on with --resume or choose another --out")
    saved = Config.from_dict(_read_run(out).get("config", {}), str(out / RUN))
    asked, found = config.flat(), saved.flat()
    for name in asked:
        if asked[name] != found[name]:
            raise ConfigError(
                f"{out}: was started with {name} {found[name]}, not {asked[name]}; "
                f"resume with --set {name}={json.dumps(found[name])}, or choose another --out"
            )


def _read_run(out: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((out / RUN).read_text("utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{out / RUN}: is damaged; choose another --out") from error


def claim_run(out: Path, config: Config, studies: pd.DataFrame, split: Split, weights: str) -> None:
    """Make a folder that :func:`run_folder` has checked this run's own, or check that it is.

    `weights` says what the run starts from: a digest or a name.
    """
    values = {"config": config.to_dict(), "data": data_digest(studies)}
    values |= {"split": split.digest, "weights": weights}
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
