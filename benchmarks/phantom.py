"""Every preset, at small size, on the same synthetic studies: one table and its picture.

    python benchmarks/phantom.py --out results                  # everything, three seeds
    python benchmarks/phantom.py --out results --seeds 1        # one seed; run several side by side
    python benchmarks/phantom.py --out results --options        # the anti-collapse options, too
    python benchmarks/phantom.py --out more --studies 10000 --presets --options "long"
                                                                # one of them on more studies
    python benchmarks/phantom.py --out hard --difficulty hard   # hard studies
    python benchmarks/phantom.py --out hard --difficulty hard --presets --options indication "indication and prior"
                                                                # what is read beside the images
    python benchmarks/phantom.py --out results --table-only     # the table of what is there
    python benchmarks/phantom.py --out results --table-only --compare   # and differences, with intervals
    python benchmarks/phantom.py --out real --data Data_Entry.csv --captions-from-labels --seeds 0
                                                                # real pixels
    python benchmarks/phantom.py --out own --data FOLDER --columns image=file,caption=note \
        --section findings --epochs 60                          # real pixels and texts

With ``--data`` the studies are of any source, as the command line reads them, and the split is by
patient, or the source's own. At the end ``evaluation/`` has all systems with their intervals; a
preset with several seeds is one system of several runs.

A seed decides the weights, the order and the dropout of encoder and decoder; studies and split stay
the same. What is finished is not done again, so the command can be stopped and started.

"Small" is for two cores: 112 px, encoders trained from random weights on the phantoms' findings
(the small convolutional network stands for DenseNet121 and ResNet50, a small ViT for ViT-B/16),
narrow decoders, and the impression for all, so that their rows can be compared. What else a preset
decides (views, decoder, fine-tuning, view prefix, optimiser's decay) is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results import write_results

from xray_captioning import notebook
from xray_captioning.cli.options import Source, column_names
from xray_captioning.comparison.evaluate import evaluate, measure
from xray_captioning.config import Config, load_preset
from xray_captioning.data.provenance import PHANTOM_NOTICE
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import split_studies
from xray_captioning.data.targets import section_texts, study_images, usable_studies
from xray_captioning.encoders import Encoder
from xray_captioning.encoders.encoding import cached_features
from xray_captioning.evaluation.baselines import retrieval_captions
from xray_captioning.files import atomic_write
from xray_captioning.metrics.mentions import compare_mentions
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.training.captions import train
from xray_captioning.training.encoder import train_encoder

PRESETS = (
    "chexnet_simple",
    "densenet_gru",
    "cnn_lstm",
    "chexnet_attention",
    "chexnet_context",
    "cnn_transformer",
    "vit_gpt2",
)
EPOCHS = 12  # of decoders
STUDIES, PHANTOM_SEED, FRACTIONS = 4000, 11, (0.85, 0.05, 0.1)
# The notebooks' small sizes, but with more to learn from.
SIZES = tomllib.loads(Path(notebook.__file__).with_name("recipes.toml").read_text("utf-8"))
SMALL: dict[str, Any] = {**SIZES["small"], "fractions": FRACTIONS, "image.augment": True}
LENGTHS = {"impression": 48, "findings": 80}  # words at most of a section
FINE_TUNING = 1e-4  # of the encoder's last block, where a preset fine-tunes it
ENCODER_TRAINING = {
    "phantom_cnn": {"epochs": 16, "batch_size": 12, "learning_rate": 0.003},
    "vit_tiny": {"epochs": 12, "batch_size": 16, "learning_rate": 0.001},
}
# Fewer, harder images: more epochs at a lower rate.
REAL: dict[str, Any] = {
    "fractions": (0.7, 0.1, 0.2),
    "image.views": 1,
    "encoder_training.epochs": 40,
    "encoder_training.learning_rate": 0.001,
}
ENCODERS = ("encoder_training.", "image.", "model.pool")  # options that need another encoder begin so
_LONG: dict[str, Any] = {"model.dropout": 0.3, "training.epochs": 20, "training.patience": 20}
_REWARD: dict[str, Any] = {
    "training.reward": {"clinical_f1": 1, "sides": 1},
    "training.reward_epochs": 12,
    "training.epochs": 30,
    "training.patience": 30,
}
_ENCODER: dict[str, Any] = {"encoder_training.side_weight": 1, "encoder_training.region_weight": 0.3}
# What keeps a model from collapsing, one at a time, on the attention preset.
OPTIONS: dict[str, dict[str, Any]] = {
    "finding loss": {"training.finding_weight": 0.5},
    "balanced sampling": {"training.balanced": True},
    "label smoothing": {"training.label_smoothing": 0.1},
    "scheduled sampling": {"training.scheduled_sampling": 0.25},
    "tied embeddings": {"model.tied_embeddings": True},
    "view prefix": {"text.view_prefix": True},
    # What all that was learned comes to: more epochs, and what lets them be used.
    "long": {"training.finding_weight": 0.5, **_LONG},
    # One at a time beside `long`: the encoder learns sides, or outlines; the captions are rewarded. Then all of them.
    "encoder sides": {"training.finding_weight": 0.5, **_LONG, "encoder_training.side_weight": 1},
    "encoder regions": {"training.finding_weight": 0.5, **_LONG, "encoder_training.region_weight": 0.3},
    "reward": {"training.finding_weight": 0.5, **_LONG, **_REWARD},
    "all means": {"training.finding_weight": 0.5, **_LONG, **_REWARD, **_ENCODER},
    # Sides are missed most: they count twice in the reward, and what is found and where counts as much as words.
    "sides twice": {
        "training.finding_weight": 1.0,
        **_LONG,
        **_REWARD,
        **_ENCODER,
        "training.reward": {"clinical_f1": 1, "sides": 2},
    },
}
RETRIEVED = "retrieved report"  # of the training study that looks most alike, read as if it were the prior one
# What is trained where it is named only: hard phantoms have indications that tell something, and patients' priors.
NAMED: dict[str, dict[str, Any]] = {
    "indication": {"text.context": ["indication"]},
    "indication and prior": {"text.context": ["indication", "prior"]},
    "earlier context aggregation": {"model.decoder": "context_aggregation"},
    RETRIEVED: {"text.context": ["prior"]},
}


def small(preset: str, seed: int, changes: dict[str, Any] | None = None) -> Config:
    """Return a preset at the size that two cores train in minutes."""
    config = load_preset(preset)
    encoder = SIZES["stand_in"][config.model.encoder]
    fitted = {"patience": 99, "weight_decay": 0.01, "seed": seed, **ENCODER_TRAINING[encoder]}
    rates = SIZES["decoder"].get(config.model.decoder, {})
    rate = rates.get("training.learning_rate", SMALL["training.learning_rate"])
    tuned = FINE_TUNING if config.training.encoder_learning_rate else 0.0
    return config.replace(
        {
            **SMALL,
            "model.encoder": encoder,
            "training.learning_rate": rate,
            "training.encoder_learning_rate": tuned,
            "training.seed": seed,
            **{f"encoder_training.{name}": value for name, value in fitted.items()},
            **(changes or {}),
        }
    )


class Bench:
    """The studies, their split, and a folder that keeps what is finished."""

    def __init__(self, out: Path, studies: Any, fractions: tuple[float, float, float], about: dict[str, Any]) -> None:
        self.out, self.cache, self.studies, self.about = out, out / "cache", studies, about
        self.split = split_studies(studies, fractions)

    @classmethod
    def of_phantoms(cls, out: Path, count: int, difficulty: str) -> Bench:
        """Render so many phantoms, unless they are there."""
        folder = out / "phantom"
        if not (folder / "indiana_reports.csv").is_file():
            write_phantoms(folder, studies=count, seed=PHANTOM_SEED, difficulty=difficulty)
        studies = read_studies(folder)
        if len(studies) != count:
            raise SystemExit(f"{folder}: holds {len(studies)} studies, not {count}; choose another --out")
        return cls(out, studies, FRACTIONS, {"source": "phantom", "notice": PHANTOM_NOTICE})

    @classmethod
    def of_data(cls, out: Path, data: Path, columns: str | None, from_labels: bool) -> Bench:
        """Read real studies."""
        studies = Source(data, None, column_names(None, None, columns), from_labels).load()
        return cls(out, studies, REAL["fractions"], {"source": data.name})

    def options(self, run: Path) -> dict[str, Any]:
        """Return what the training of encoders and decoders has in common."""
        common = {"split": self.split, "cache": self.cache, "about": self.about}
        return {**common, "resume": run.exists()}

    def encoder(self, config: Config, seed: int, changes: dict[str, Any]) -> Path:
        """Train the encoder of a seed, unless it is there, with both views; `changes` are those of an option."""
        told = [f"{name}={value}" for name, value in changes.items() if name.startswith(ENCODERS)]
        run = self.out / f"seed-{seed}" / " ".join([config.model.encoder, *told])
        if not (run / "manifest.json").is_file():
            started = time.perf_counter()
            both = config.replace({"image.views": 2, "name": config.model.encoder})
            _, rows = train_encoder(self.studies, both, run, "random", **self.options(run))
            seconds = time.perf_counter() - started
            _write(run / "result.json", {"AUROC": rows[-1]["AUROC"], "seconds": seconds})
        return run

    def decoder(self, name: str, config: Config, seed: int, changes: dict[str, Any] | None = None) -> None:
        """Train and measure one decoder, unless that is done."""
        run = self.out / f"seed-{seed}" / name
        if (run / "result.json").is_file():
            return
        encoder = Encoder.load(self.encoder(config, seed, changes or {}))
        images = study_images(usable_studies(self.studies, config), config)
        maps = cached_features(images, encoder, config, self.cache)
        studies = self.retrieved(maps, config) if name == RETRIEVED else self.studies
        started = time.perf_counter()
        captioner = train(studies, config, run, encoder, **self.options(run), measured=False)
        seconds = (time.perf_counter() - started) / config.training.epochs
        rows = measure(captioner, studies, run, self.cache, name)
        _write(
            run / "result.json",
            {
                "rows": [{**row, **self.agreement(run, row)} for row in rows],
                "decoder_parameters": captioner.model.count_params(),
                "encoder_parameters": captioner.encoder.count_params(),
                "seconds_an_epoch": seconds,
            },
        )

    def retrieved(self, maps: Any, config: Config) -> Any:
        """Return the studies with the nearest training study's text as the prior one; none finds itself."""
        images, texts = study_images(self.studies, config), np.array(section_texts(self.studies, config), object)
        means = np.stack([np.mean([maps[path].mean((0, 1)) for path in paths if path], axis=0) for paths in images])
        place = {name: row for row, name in enumerate(self.studies["study_id"])}
        parts = self.split.train, self.split.val + self.split.test
        train, others = ([place[name] for name in part] for part in parts)
        number = np.unique(self.studies["patient_id"].astype(str), return_inverse=True)[1]
        halves = [[row for row in train if number[row] % 2 == odd] for odd in (0, 1)]  # a test study's patient is new
        found = np.empty(len(texts), object)
        for asked, keys in (halves, halves[::-1], (others, train)):
            found[asked] = retrieval_captions(means[keys], list(texts[keys]), means[asked])
        return self.studies.assign(prior=found)

    def compare(self, systems: Sequence[str], seeds: Sequence[int]) -> None:
        """Evaluate all systems together, with intervals, and print the summary."""
        runs = {name: [self.out / f"seed-{seed}" / name for seed in seeds] for name in systems}
        page = self.out / "evaluation" / "evaluation.html"
        evaluate(self.studies, runs, page.parent, split=self.split, cache=self.cache, report=page)
        print(page.with_suffix(".md").read_text("utf-8"))

    def compare_texts(self, systems: Sequence[str], seeds: Sequence[int], section: str) -> None:
        """Print the differences in clinical F1 of what systems wrote, greedily, over seeds and patients."""
        folders = {name: [self.out / f"seed-{seed}" / name for seed in seeds] for name in systems}
        done = {name: runs for name, runs in folders.items() if all((run / "result.json").is_file() for run in runs)}
        runs = {name: list(map(self.texts, own)) for name, own in done.items()}
        changes = {"text.section": section}
        evaluate(self.studies, runs, self.out / "compared", split=self.split, changes=changes, quick=True)
        found = json.loads((self.out / "compared" / "metrics.json").read_text("utf-8"))
        print("| system | other | difference in clinical F1 | 95 % interval | p |\n| --- | --- | --- | --- | --- |")
        for row in (row for row in found["differences"] if row["metric"] == "clinical_f1" and row["rival"] in runs):
            interval = f"{row['low']:.3f} to {row['high']:.3f}"
            print(f"| {row['system']} | {row['rival']} | {row['difference']:.3f} | {interval} | {row['p_holm']:.2g} |")

    def texts(self, run: Path) -> dict[str, str]:
        """Return what a run wrote greedily, by study."""
        import pandas as pd

        found = pd.read_csv(run / "captions.csv", keep_default_na=False, dtype=str)
        return dict(zip(found["study_id"], found[f"{run.name} greedy"]))

    def agreement(self, run: Path, row: dict[str, Any]) -> dict[str, float | None]:
        """Return the share of same sides among the findings that both texts name."""
        import pandas as pd

        texts = pd.read_csv(run / "captions.csv", keep_default_na=False)
        column = f"{row['system']} {row['search']}" if row["search"] else row["system"]
        found = compare_mentions(list(texts["reference"]), list(texts[column]))
        named = not np.isnan(found["side_recall"])
        return {"side_agreement": float(np.nan_to_num(found["side_agreement"])) if named else None}


def _write(path: Path, values: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(values, indent=2) + "\n")


def main() -> None:
    """Train what is asked for and write the table of all that is finished."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--presets", nargs="*", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--studies", type=int, default=STUDIES, help="phantoms to render")
    parser.add_argument("--difficulty", default="easy", help="of the phantoms: easy, hard, or 0 to 1")
    more = "these, too: if none is named, all against collapse"
    parser.add_argument("--options", nargs="*", choices=(*OPTIONS, *NAMED), help=more)
    parser.add_argument("--data", type=Path, help="real studies instead of phantoms")
    parser.add_argument("--columns", metavar="ROLE=NAME,…", help="of --data, as in `prepare`")
    parser.add_argument("--captions-from-labels", action="store_true", help="as in `prepare`")
    parser.add_argument("--section", choices=LENGTHS, default="impression", help="to write")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="more, where studies are few")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--compare", action="store_true", help="what is named, when it is finished")
    given = parser.parse_args()
    if given.data and RETRIEVED in (given.options or ()):
        parser.error(f"{RETRIEVED!r} is measured on phantoms")
    options = () if given.options is None else given.options or tuple(OPTIONS)
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.table_only:
        changes: dict[str, Any] = REAL if given.data else {}
        changes = changes | {
            "text.section": given.section,
            "text.maximum_length": LENGTHS[given.section],
            "training.epochs": given.epochs,
            "training.patience": given.epochs,
        }
        if given.data:
            bench = Bench.of_data(given.out, given.data, given.columns, given.captions_from_labels)
        else:
            bench = Bench.of_phantoms(given.out, given.studies, given.difficulty)
        for seed in given.seeds:
            for preset in given.presets:
                print(f"seed {seed}: {preset}", flush=True)
                bench.decoder(preset, small(preset, seed, changes), seed)
            for name in options:
                print(f"seed {seed}: {name}", flush=True)
                own = (OPTIONS | NAMED)[name]
                bench.decoder(name, small("chexnet_attention", seed, {**changes, **own}), seed, own)
        if given.data:
            bench.compare([*given.presets, *options], given.seeds)
    if given.compare:
        bench = Bench.of_phantoms(given.out, given.studies, given.difficulty)
        bench.compare_texts([*given.presets, *options], given.seeds, given.section)
    write_results(given.out, PRESETS, (*OPTIONS, *NAMED))


if __name__ == "__main__":
    main()
