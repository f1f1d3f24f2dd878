"""Where RadEval's and NLTK's metrics differ from ours and from the known definitions, on texts of phantoms.

    python benchmarks/further_metrics.py [--studies N] [--load]

References are the findings of phantoms (seeds 0, 1, ..., as they are dictated and as `plain` cleaning leaves them),
the texts those of the next phantom with every third sentence left out. Needs the extra `radeval`; METEOR needs
WordNet (docs/evaluation.md) and, for the reference implementation, pycocoevalcap and Java. What is not there is left
out, with the reason. `--load` prints of every other metric whether it can be loaded, and how long that takes.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.errors import ConfigError
from xray_captioning.evaluation.table import format_table
from xray_captioning.metrics import further
from xray_captioning.metrics.bleu import bleu_from_statistics
from xray_captioning.metrics.scores import word_statistics
from xray_captioning.phantom.studies import sample_study
from xray_captioning.phantom.wording import report
from xray_captioning.text.cleaning import clean

Row = dict[str, Any]


def phantom_texts(number: int) -> tuple[list[str], list[str]]:
    """Return the findings of phantoms, and what a bad system might write of them."""
    generators = [np.random.default_rng(seed) for seed in range(number)]
    reports = [report(sample_study(rng), rng)["findings"] for rng in generators]
    sentences = [text.split(". ") for text in [*reports[1:], reports[0]]]
    return reports, [". ".join(part for n, part in enumerate(own) if n % 3 != 2).rstrip(".") + "." for own in sentences]


def row(name: str, first: Sequence[float] | float, other: Sequence[float] | float) -> Row:
    """Compare two ways of computing a score: each a text, or of all texts."""
    one, two = (np.atleast_1d(np.array(column, dtype=float)) for column in (first, other))
    most = float(abs(one - two).max()) if len(one) == len(two) else float("nan")
    return {"": name, "first": float(one.mean()), "second": float(two.mean()), "largest difference": most}


def words(references: list[str], texts: list[str], said: str) -> list[Row]:
    """Compare BLEU and ROUGE, of texts `said` to be of some kind."""
    found = further.statistics(further.opened("bleu,rouge"), references, references, texts)
    ours = word_statistics(references, texts, rouge_score=True)
    from radeval import RadEval

    whole = RadEval(metrics=["bleu"], show_progress=False)(refs=references, hyps=texts)["bleu"]
    rows = bleu_from_statistics(ours["n-grams"])[:, 3]
    corpus = float(bleu_from_statistics(ours["n-grams"].sum(0))[3])
    names = (("ROUGE-1", "rouge1"), ("ROUGE-2", "rouge2"), ("ROUGE-L-F1", "rougeL"), ("ROUGE-L", "rougeL"))
    return [
        row(f"{said}: BLEU-4 of all, RadEval's bleu of all", corpus, whole),
        row(f"{said}: BLEU-4 of each, RadEval's bleu of each", rows, found["bleu"]),
        row(f"{said}: BLEU-4 of all, mean of RadEval's bleu", corpus, float(found["bleu"].mean())),
        *(row(f"{said}: {mine}, RadEval's {theirs}", ours[mine], found[theirs]) for mine, theirs in names),
    ]


def meteor(references: list[str], texts: list[str]) -> list[Row]:
    """Compare NLTK's METEOR with that of equal words and stems alone, and with METEOR 1.5."""
    from nltk.translate.meteor_score import single_meteor_score

    nltk = further.opened("meteor")["meteor"](references, texts)["METEOR-NLTK"]
    none = argparse.Namespace(synsets=lambda word: [])
    bare = [single_meteor_score(r.split(), t.split(), wordnet=none) for r, t in zip(references, texts, strict=True)]
    rows = [row("METEOR-NLTK, without synonyms", nltk, bare)]
    if shutil.which("java") is None:
        print("METEOR 1.5 left out: it needs Java")
        return rows
    from pycocoevalcap.meteor.meteor import Meteor

    ids = range(len(texts))
    _, scores = Meteor().compute_score({i: [references[i]] for i in ids}, {i: [texts[i]] for i in ids})
    right = further.opened("meteor")["meteor"](references, references)["METEOR-NLTK"]
    order = np.corrcoef(nltk, scores)[0, 1]
    print(f"METEOR-NLTK and METEOR 1.5: correlation over texts {order:.3f}")
    ones = [1.0] * len(right)
    return [*rows, row("METEOR-NLTK, METEOR 1.5", nltk, scores), row("METEOR-NLTK of the references, 1", right, ones)]


def load() -> None:
    """Print which metrics can be loaded here."""
    for name in further.KNOWN:
        start = time.perf_counter()
        try:
            further.opened(name)
            said = "loaded"
        except ConfigError as error:
            said = str(error)
        print(f"{time.perf_counter() - start:.1f} s  {name}: {said}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--load", action="store_true")
    given = parser.parse_args(arguments)
    if given.load:
        load()
        return
    raw, said = phantom_texts(given.studies)
    plain, cleaned = ([clean(text, "plain") for text in column] for column in (raw, said))
    rows: list[Row] = []
    for make, columns in (
        (words, (plain, cleaned, "cleaned")),
        (words, (raw, said, "dictated")),
        (meteor, (plain, cleaned)),
    ):
        try:
            rows += make(*columns)  # type: ignore[operator]
        except ConfigError as error:
            print(f"left out: {error}")
    print(format_table(rows))


if __name__ == "__main__":
    main()
