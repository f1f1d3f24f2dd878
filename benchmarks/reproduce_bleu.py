"""What the older project's BLEU says of captions that were written without looking at an image.

    python benchmarks/reproduce_bleu.py NLMCXR_reports.tgz

The texts are the 4,033 rows of `legacy.impression_table`. Its test part is drawn by the rule of
the older notebooks: one row a report; a tenth of the impressions that stand more than five times,
stratified; a fifth of the others. That gives 563 rows, as theirs. Which rows they are depends on
the order in which its author's file system listed the reports, which is not published, so the rule
is applied to the reports in the order of their numbers, and with other random seeds to see how
much that matters. Scored are the older simple model's only caption, and a constant searched for
on the training part so that its legacy BLEU-4 is high. Printed are all three protocols of `score`.
About a minute and a half on one core.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.evaluation.table import format_table
from xray_captioning.legacy.impressions import impression_table
from xray_captioning.metrics.bleu import BLEU_PROTOCOLS, legacy_bleu_rows
from xray_captioning.metrics.clinical import clinical_scores
from xray_captioning.metrics.scores import score, word_statistics

CONSTANT = "no acute cardiopulmonary abnormality ."
OLDER_SEED = 420
DRAWS = 100
COMMON_WORDS = 30  # the search chooses among the commonest
LONGEST = 12  # words of the caption that is searched for
SWEEPS = 3


def split(impressions: Sequence[str], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the training and of the test part, by the older notebooks' rule."""
    from sklearn.model_selection import train_test_split

    _, place, count = np.unique(impressions, return_inverse=True, return_counts=True)
    rows, frequent = np.arange(len(impressions)), count[place] > 5
    _, common = train_test_split(rows[frequent], stratify=place[frequent], test_size=0.1, random_state=seed)
    rare = rows[~frequent]
    chosen = np.random.RandomState(seed).choice(rare, int(0.2 * len(rare)), replace=False)
    test = np.concatenate([common, chosen])
    return np.setdiff1d(rows, test), test


def legacy_rows(references: Sequence[str], caption: str) -> NDArray[np.float64]:
    """Score one caption against every reference (n, 4)."""
    return legacy_bleu_rows(word_statistics(references, [caption] * len(references))["n-grams"])


def search(references: Sequence[str]) -> str:
    """Look for a constant with a high legacy BLEU-4: append words, then exchange single ones."""
    texts, counts = np.unique(references, return_counts=True)
    words, number = np.unique(" ".join(references).split(), return_counts=True)
    common = [str(word) for word in words[np.argsort(-number)[:COMMON_WORDS]]]

    def value(caption: list[str]) -> float:
        rows = legacy_rows(list(map(str, texts)), " ".join(caption))
        return float(np.average(rows[:, 3], weights=counts))

    best: list[str] = []
    for place in [*range(LONGEST)] * SWEEPS:
        if place > len(best):
            continue  # the last appended word did not help
        tried = [[*best[:place], word, *best[place + 1 :]] for word in common]
        best = max([best, *tried], key=value)
    return " ".join(best)


def table(references: Sequence[str], captions: dict[str, str]) -> list[dict[str, Any]]:
    """Score constants under every protocol."""
    rows = []
    for name, caption in captions.items():
        hypotheses = [caption] * len(references)
        clinical = clinical_scores(references, hypotheses)["clinical_f1"]
        rows += [
            {
                "caption": name,
                "protocol": protocol,
                **score(references, hypotheses, protocol),
                "clinical_f1": float(clinical),
                "distinct": 1,
                "n": len(references),
            }
            for protocol in BLEU_PROTOCOLS
        ]
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("reports", type=Path, help="folder or .tgz of the Open-i XML reports")
    whole = impression_table(parser.parse_args().reports)
    impressions = list(whole.drop_duplicates("xml")["impression"])
    train, test = split(impressions, OLDER_SEED)
    references = [impressions[row] for row in test]
    print(f"{len(whole)} rows, {len(impressions)} reports: {len(train)} training, {len(test)} test")

    nonsense = search([impressions[row] for row in train])
    captions = {"constant": CONSTANT, "nonsense": nonsense}
    for name, caption in captions.items():
        print(f"{name}: {caption!r}")
    print(f"\ntest part\n{format_table(table(references, captions))}")
    print(f"\nall rows\n{format_table(table(list(whole['impression']), captions))}")

    rows = legacy_rows(impressions, CONSTANT)
    draws = np.array([rows[split(impressions, seed)[1]].mean(axis=0) for seed in range(DRAWS)])
    print(f"\nlegacy BLEU-1 to BLEU-4 of the constant over {DRAWS} test parts drawn by the rule")
    for name, values in (("mean", draws.mean(0)), ("least", draws.min(0)), ("most", draws.max(0))):
        print(f"{name:<6} {' '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    main()
