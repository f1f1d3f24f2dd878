"""Settings of one recipe, each trained with several seeds, compared on the validation studies."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xray_captioning.comparison.evaluate import evaluate
from xray_captioning.config import Config, parse_assignment
from xray_captioning.data import provenance
from xray_captioning.decoders import check_decoder
from xray_captioning.encoders.saved import check_start
from xray_captioning.errors import BundleError, ConfigError, require
from xray_captioning.evaluation.table import finite, format_cell, format_csv
from xray_captioning.files import atomic_write, say
from xray_captioning.training.captions import train
from xray_captioning.training.run_folder import open_state

TABLE = "sweep.csv"
METRICS = ("clinical_f1", "BLEU-4", "CIDEr")
# Other texts or studies have other scores; and seeds are drawn for every setting alike.
FIXED = ("text.section", "text.cleaning", "fractions", "training.seed", "training.monitor")
Space = Mapping[str, Any]  # by field, a list of values or a `Range`
Row = dict[str, Any]


class Range(NamedTuple):
    """What is drawn between two numbers: whole ones, or, from above 0, evenly by logarithm."""

    low: float
    high: float


def parse_space(assignments: Iterable[str]) -> dict[str, Any]:
    """Read ``model.pool=1,2`` as values, and ``training.learning_rate=1e-4..1e-2`` as a range."""
    space: dict[str, Any] = {}
    for text in assignments:
        name, _, values = text.partition("=")
        _, given = parse_assignment(f"{name}=[{values}]")  # values may be lists themselves
        if not isinstance(given, list):
            if "[" in values:
                raise ConfigError(f'--grid {text}: lists are JSON: FIELD=["a"],["a","b"]')
            parts = values.split(".." if ".." in values else ",")
            given = [parse_assignment(f"{name}={part}")[1] for part in parts]
        if not given or not values or name.strip() in (*FIXED, *space) or name.startswith("encoder_training."):
            raise ConfigError(f"--grid {text}: give FIELD=VALUE,VALUE…, a field once; not of {', '.join(FIXED)}")
        if ".." in values:
            numbers = len(given) == 2 and all(type(end) in (int, float) for end in given)
            if not numbers or given[0] >= given[1]:
                raise ConfigError(f"--grid {text}: a range is two numbers, such as 1e-4..1e-2")
        space[name.strip()] = Range(*given) if ".." in values else given
    return space


def settings(space: Space, trials: int | None, seed: int) -> list[dict[str, Any]]:
    """Return every combination of the values, or so many random ones, each once."""
    ranges = [name for name, values in space.items() if isinstance(values, Range)]
    if ranges and trials is None:
        raise ConfigError(f"--grid {ranges[0]}: numbers between two are drawn; add --trials N")
    every = (dict(zip(space, values)) for values in product(*space.values()))
    found = every if trials is None else _random(space, trials, seed)
    return list({json.dumps(setting): setting for setting in found}.values())


def _random(space: Space, trials: int, seed: int) -> list[dict[str, Any]]:
    optuna = require("optuna", "a random search", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    asked = (study.ask() for _ in range(trials))
    return [{name: _drawn(one, name, values) for name, values in space.items()} for one in asked]


def _drawn(trial: Any, name: str, values: Any) -> Any:
    if not isinstance(values, Range):
        return values[trial.suggest_categorical(name, range(len(values)))]  # they may be lists
    if all(isinstance(end, int) for end in values):
        return trial.suggest_int(name, *values)
    return float(f"{trial.suggest_float(name, *values, log=values.low > 0):.3g}")


def sweep(
    studies: Any, config: Config, out: Path, chosen: Sequence[Mapping[str, Any]], seeds: int, **options: Any
) -> list[Row]:
    """Train each of the chosen settings with each seed in a run folder of its own, and compare."""
    # What is trained already is not trained again, so that the same call goes on after a stop. `options` are those of
    # `train`. Test studies are not looked at. Returned, and in ``sweep.csv``, are a row for each setting, the best
    # first, and one for each baseline.
    named = {" ".join(f"{k}={v}" for k, v in changes.items()) or "as it is": changes for changes in chosen}
    configs = {name: config.replace(dict(changes)) for name, changes in named.items()}
    images = options.get("features") is None
    for each in configs.values():
        check_decoder(each.model)
        if images:
            check_start(each, options.get("encoder"), options.get("weights"))
    if len({one.training.reward for one in (config, *configs.values())}) > 1 and config.training.monitor == "val_loss":
        raise ConfigError("--grid: other rewards are other scores; add --set training.monitor=val_clinical_f1")
    if out.is_dir() and any(out.iterdir()) and not (out / "sweep.json").is_file():
        raise ConfigError(f"{out}: is not empty and holds no sweep; choose another --out")
    studies, _, options["split"] = provenance.open_studies(studies, options.get("split"), images)
    atomic_write(out / "sweep.json", "{}\n")
    runs: dict[str, list[Path]] = {}
    for number, (name, each) in enumerate(configs.items(), 1):
        for seed in range(config.training.seed, config.training.seed + seeds):
            say(f"{number}/{len(configs)} {name}, seed {seed}")
            run = out / _folder(name) / f"seed-{seed}"
            try:
                own = each.replace({"training.seed": seed})
                train(studies, own, run, **{**options, "measured": False, "resume": True})
                runs.setdefault(name, []).append(run)
            except BundleError as error:  # its loss became infinite, or its files are damaged
                say(f"  left out: {error}")
    if not runs:
        raise ConfigError(f"{out}: no run came to an end; choose other values")
    same: dict[str, Any] = {name: options.get(name) for name in ("split", "cache", "features")}
    evaluate(studies, runs, out, part="val", beams=[1], quick=True, **same)
    rows = _rows(out, runs, named, config.training.watched)
    atomic_write(out / TABLE, format_csv(rows, list(rows[0])))
    return rows


def _folder(name: str) -> str:
    """Return a setting's folder; where its name is cut, or signs of lists are lost, a digest tells it from others."""
    plain = re.sub(r"[^\w.=+-]", "_", name)
    whole = len(plain) <= 120 and "[" not in name
    return plain if whole else f"{plain[:107]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _rows(out: Path, runs: Mapping[str, Sequence[Path]], chosen: Mapping[str, Any], monitor: str) -> list[Row]:
    found, rows = json.loads((out / "metrics.json").read_text("utf-8")), []
    for row in found["rows"]:
        name, search = row["system"], row["search"]
        column, best = f"{name} {search}" if search else name, [_best(run, monitor) for run in runs.get(name, ())]
        line = {"system": name, **chosen.get(name, dict.fromkeys(next(iter(chosen.values()))))}
        line |= {"seeds": len(best) or None, **_spread(monitor, best, _over_seeds(best))}
        for metric in METRICS:
            each = [run[metric] for run in found["runs"].get(column, [row])]
            line |= _spread(metric, each, found["intervals"][column][metric])
        rows.append({**line, "distinct": row["distinct"], "n": row["n"]})
    sign = 1 if monitor == "val_loss" else -1
    return sorted(rows, key=lambda row: np.inf if row[monitor] is None else sign * row[monitor])


def _best(run: Path, monitor: str) -> float:
    with open_state(run) as (history, _):
        return (min if monitor == "val_loss" else max)(row[monitor] for row in history)


def _over_seeds(values: Sequence[float]) -> list[float] | None:
    """Return the 95 % interval of the mean over all seeds, by Student's t."""
    from scipy.special import stdtrit

    if (count := len(values)) < 2:
        return None
    reach = stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / count**0.5
    return [np.mean(values) - reach, np.mean(values) + reach]


def _spread(name: str, values: Sequence[float | None], interval: Sequence[float] | None) -> Row:
    """Return mean and standard deviation over seeds, all of which have a value, and an interval's ends."""
    numbers = np.array(values or [None], "float64")
    found = numbers.mean(), (numbers.std(ddof=1) if len(numbers) > 1 else np.nan), *(interval or (np.nan, np.nan))
    return {f"{name}{part}": finite(float(value)) for part, value in zip(("", "_sd", "_low", "_high"), found)}


def shown(rows: Sequence[Mapping[str, Any]], monitor: str) -> list[dict[str, str]]:
    """Return rows for a terminal: of each score mean ± deviation over seeds [95 % interval]."""
    names = (*("system", "seeds", monitor), *METRICS, "distinct")
    return [{name: _cell(row, name) for name in names} for row in rows]


def _cell(row: Mapping[str, Any], name: str) -> str:
    spread, low, high = (row.get(f"{name}_{part}") for part in ("sd", "low", "high"))
    text = format_cell(row[name]) + ("" if spread is None else f" ± {spread:.3f}")
    return text if low is None else f"{text} [{low:.3f}, {high:.3f}]"
