"""The whole recipe on synthetic phantoms: findings first, captions after, measured on others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from xray_captioning.comparison.evaluate import measure
from xray_captioning.config import load_preset
from xray_captioning.data.provenance import PHANTOM_NOTICE
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import split_studies
from xray_captioning.evaluation.table import format_cell
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.training.captions import train
from xray_captioning.training.encoder import train_encoder

STUDIES = 1940  # 200 of them to test on
ENCODER = {"epochs": 5, "learning_rate": 0.006, "side_weight": 1, "region_weight": 0.3}  # phantoms have outlines


def run_demo(
    out: Path, seed: int, say: Callable[[str], Any] = print, devices: Literal["one", "all"] = "one"
) -> list[dict[str, Any]]:
    """Draw phantoms, train an encoder and a decoder in `out`, and return a row for each system."""
    changes = {f"encoder_training.{name}": value for name, value in {**ENCODER, "seed": seed}.items()}
    config = load_preset("phantom_attention").replace({**changes, "training.seed": seed})
    say(f"1/4 rendering {STUDIES} synthetic studies")
    studies = read_studies(write_phantoms(out / "phantom", studies=STUDIES, seed=seed))
    split = split_studies(studies, config.fractions)
    sizes = ", ".join(f"{len(ids)} {name}" for name, ids in split.parts.items())
    say(f"2/4 teaching an encoder the findings ({sizes})")
    cache, about = out / "cache", {"source": "phantom", "notice": PHANTOM_NOTICE}
    how: Any = {"split": split, "cache": cache, "about": about, "devices": devices}
    encoder, rows = train_encoder(studies, config, out / "encoder", "random", **how)
    say(f"    mean area under the ROC curve on test studies: {format_cell(rows[-1]['AUROC'])}")
    say("3/4 teaching an attention decoder to write impressions")
    run = out / "global_attention"
    captioner = train(studies, config, run, encoder, measured=False, **how)
    say("4/4 captioning the test studies with greedy and beam search")
    found = measure(captioner, studies, run, cache)
    for name in ("metrics.json", "captions.csv", "panel.png"):
        (run / name).replace(out / name)
    shutil.rmtree(cache)
    return found
