"""How far the confidence and the novelty of a calibrated bundle hold, on phantoms it never saw.

    python benchmarks/confidence.py                         # the shipped bundle, 2,000 phantoms
    python benchmarks/confidence.py --images nih14/images --images iu/images   # and real X-rays
    python benchmarks/confidence.py --bundle runs/attention --studies 500
    python benchmarks/confidence.py --bundle runs/attention --data covid_cxr   # unseen studies of one's own

Printed are Brier score, skill and calibration error of what is stated of the captions' sentences,
beside those of the base rate and of chance; what a threshold withholds, and how many of the
sentences that it shows are wrong; and the novelty of images
that are no chest X-rays, and of folders of real ones, each image by itself. Their captions have no
confidence where it is above 1; what it would be is printed, too.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from strange import strange_images

from xray_captioning import Captioner, read_studies
from xray_captioning.captioner.calibration import search_of
from xray_captioning.data.images import Image, read_image
from xray_captioning.data.targets import usable_studies
from xray_captioning.evaluation.table import format_markdown
from xray_captioning.phantom.dataset import write_phantoms
from xray_captioning.training.calibration import Outcomes, caption_outcomes, evaluate_calibration

TURNED = 100  # studies whose images are made strange
SIZE = 224  # pixels of those images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="phantom_attention")
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=8, help="Of the phantoms; 7 made the bundle.")
    parser.add_argument("--threshold", type=float, default=0.97)
    parser.add_argument("--data", type=Path, help="Studies that the bundle has not seen, instead of phantoms.")
    parser.add_argument("--images", type=Path, action="append", default=[], metavar="FOLDER")
    given = parser.parse_args()
    captioner = Captioner.load(given.bundle)
    if captioner.calibration is None:
        parser.error(f"--bundle {given.bundle}: is not calibrated; see xray-captioning calibrate")
    with tempfile.TemporaryDirectory() as folder:
        source = given.data or write_phantoms(Path(folder) / "p", given.studies, seed=given.seed)
        studies = usable_studies(read_studies(source), captioner.config)
        seen = caption_outcomes(captioner, studies)
        values, _ = evaluate_calibration(captioner.calibration, seen)
        print(format_markdown([{"": k, **v} for k, v in values["sentences"].items()]), "\n")
        print(format_markdown([withheld(captioner, seen, given.threshold)]), "\n")
        print(format_markdown(values["selective"].pop("shown")), "\n")
        print(", ".join(f"{name} {value:.4f}" for name, value in values["selective"].items()), "\n")
        print(f"{values['flagged']:.1%} of {len(studies)} studies have a novelty above 1\n")
        kinds = strange(studies["images"])
    kinds |= {str(folder): pictures(folder) for folder in given.images}
    print(format_markdown([novelty(captioner, name, images) for name, images in kinds.items()]))


def withheld(captioner: Captioner, seen: Outcomes, threshold: float) -> dict[str, Any]:
    """Return what a threshold withholds, and what that is worth."""
    from sklearn.metrics import roc_auc_score

    search, (found, right, _) = next(iter(seen.written.items()))
    stated = [captioner.calibration.confidence(one, search) for one in found.tolist()]
    shown = np.array(stated) >= threshold
    return {
        "threshold": threshold,
        "sentences withheld": f"{1 - shown.mean():.1%}",
        "wrong ones among them": f"{(~right & ~shown).sum()} of {(~right).sum()}",
        "right of all": f"{right.mean():.1%}",
        "right of those shown": f"{right[shown].mean():.1%}",
        "area under the ROC curve": roc_auc_score(right, found),
    }


def strange(studies: Sequence[Sequence[str]]) -> dict[str, list[Image]]:
    """Return images that are no chest X-rays, and mirrored ones."""
    pairs = [study for study in studies if len(study) > 1][:TURNED]
    frontal, lateral = ([read_image(study[view], SIZE) for study in pairs] for view in (0, 1))
    kinds: dict[str, list[Image]] = {**strange_images(frontal, lateral)}
    return kinds | {"frontal phantoms mirrored": [chest[:, ::-1].copy() for chest in frontal]}


def pictures(folder: Path) -> list[Image]:
    """Return the PNG and JPEG files of a folder."""
    return [str(path) for path in sorted(folder.rglob("*")) if path.suffix in (".png", ".jpg")]


def novelty(captioner: Captioner, name: str, images: Sequence[Image]) -> dict[str, Any]:
    """Return how novel images of one kind are, each by itself, and how sure the captions."""
    captions = list(captioner.caption_iter([[image] for image in images]))
    found = np.array([caption.novelty for caption in captions])
    search = search_of(captioner.config.decoding, captioner.config.decoding.beam_size)
    said = [s.log_probability for caption in captions for s in caption.sentences]
    stated = [captioner.calibration.confidence(value, search) for value in said]
    return {
        "images": name,
        "n": len(images),
        "novelty above 1": f"{np.mean(found > 1):.0%}",
        "least": f"{found.min():.1f}",
        "median": f"{np.median(found):.1f}",
        "confidence, were it stated": f"{np.mean(stated):.2f}",
    }


if __name__ == "__main__":
    main()
