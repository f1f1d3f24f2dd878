"""Whether an indication makes a captioner claim what is not there, and what it brings where it is right.

    python benchmarks/phantom.py --out hard --difficulty hard --presets chexnet_attention --options indication
    python benchmarks/misleading.py --data hard/phantom --cache hard/cache hard/seed-*/indication

Studies are those of the test part of the bundle's split whose truth, the column of problems, is empty: normal films.
Each is captioned with its own indication, with none, and with the misleading one; a claim is a finding that
`xc.label_report` calls present or uncertain. What the indication brings on all studies, and what comes from text alone,
is in the table that `xray-captioning evaluate` writes of such a bundle (rows "without context", "context of others" and
"without image").
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.comparison.texts import CaptioningSystem
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.targets import contexts, usable_studies
from xray_captioning.evaluation.table import format_markdown
from xray_captioning.metrics.labeler import label_report


def claims(texts: Sequence[str], finding: str) -> float:
    """Return the share of texts that call a finding present or uncertain."""
    return sum(label_report(text)[finding] in (1, -1) for text in texts) / len(texts)


def row(bundle: Path, studies: Any, cache: Path | None, indication: str, finding: str) -> dict[str, Any]:
    """Return how often a bundle claims a finding on the normal films of its test part."""
    captioner = Captioner.load(bundle)
    usable = usable_studies(studies, captioner.config)
    test = usable[usable["study_id"].isin(captioner.split.test)]
    normal = test[[not problems for problems in test["problems"]]].reset_index(drop=True)
    own = contexts(normal, captioner.config)
    if not own:
        raise SystemExit(f"{bundle}: reads no context; train it with --set 'text.context=[\"indication\"]'")
    told = {"its own": own, "none": None, f"“{indication}”": [{**one, "indication": indication} for one in own]}
    batches = list(CaptioningSystem(bundle.name, captioner).batches(normal, cache))
    found: dict[str, Any] = {"bundle": str(bundle), "normal films": len(normal)}
    for name, given in told.items():
        texts, done = [], 0
        for features in batches:
            some = given and given[done : done + len(features.mask)]
            texts += [caption.text for caption in captioner.write_captions(features, 1, context=some)]
            done += len(features.mask)
        found[name] = f"{100 * claims(texts, finding):.1f} %"
    return found


def main() -> None:
    """Print a row for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--indication", default="Rule out pneumothorax.")
    parser.add_argument("--finding", default="Pneumothorax")
    given = parser.parse_args()
    studies = read_studies(given.data)
    print(f"Share of normal films with {given.finding} claimed, by what the model is told as the indication:\n")
    print(format_markdown([row(b, studies, given.cache, given.indication, given.finding) for b in given.bundles]))


if __name__ == "__main__":
    main()
