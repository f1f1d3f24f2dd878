"""How well `label_report` reads reports: against human coding, and on sentences of known meaning.

    python benchmarks/labeler.py mesh ecgen-radiology.tgz
    python benchmarks/labeler.py negbio ecgen-radiology.tgz openi_gld_std14.csv
    python benchmarks/labeler.py sentences tests/metrics/sentences.tsv
    python benchmarks/labeler.py speed ecgen-radiology.tgz [--against CHECKOUT] [--repeats 9]

mesh: the human MeSH coding of the Indiana University reports. Text is findings and impression
together; an uncertain finding counts as present. Phrases and conventions were tuned on the
odd-numbered reports only, so the even-numbered ones say how good they are. Printed are precision,
recall and F1 of each finding, macro F1 with a bootstrap interval (1,000 resamples of reports), and
kinds of disagreement that can be told apart without reading.

negbio: the gold labels that NegBio's authors publish for 3,851 of these reports, which stand for
findings that are present. They were made from the same coding, so that convention "mesh" is theirs.

sentences: kind, sentence and expected labels ("Edema=0;Pneumonia=-1/0", N for not mentioned), tab
separated, as `tests/metrics/sentences.tsv` has them. Beside the labeler negspacy and medspacy read
them, where they are installed (`pip install negspacy medspacy`), with the words of `TERMS` as the
findings to look for, and CheXbert (`pip install f1chexbert`), where its weights can be had from the
Hugging Face hub; only sentences that have such a word count for this comparison.

speed: CPU time of a fresh process that labels every report once, and all of them again, the least
of several; with another checkout of this repository beside it, in turns, and ratios to it. The
first round is not counted: it writes bytecode.
"""

import argparse
import csv
import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.data.sources.reading import read_studies
from xray_captioning.metrics.labeler import CONVENTIONS, PRESENT, UNCERTAIN, find_mentions, label_report
from xray_captioning.metrics.labels.details import MESH_FINDINGS

Labels = dict[str, int | None]

NAMES = tuple(dict.fromkeys(MESH_FINDINGS.values()))
RESAMPLES = 1000
# A finding of which coders chose another term: what the disagreement is then called.
OTHER_TERMS = {
    "Cardiomegaly": ("cardiac shadow",),
    "Pleural Effusion": ("costophrenic angle", "sulcus", "hydropneumothorax", "hemopneumothorax"),
    "Emphysema": ("lung/hyperdistention", "bullous emphysema", "blister", "lung, hyperlucent"),
    "Lung Lesion": ("opacity", "density", "cavitation", "cysts", "calcified granuloma"),
    "Granuloma": ("granulomatous disease", "nodule"),
    "Fracture": ("deformity", "lucency"),
    "Atelectasis": ("opacity", "airspace disease", "infiltrate", "density"),
    "Edema": ("markings", "opacity", "airspace disease"),
    "Hiatal Hernia": ("opacity", "density"),
}
# Columns of NegBio's gold labels, by the finding that they stand for.
GOLD = {
    "Atelectasis": ("Atelectasis",),
    "Cardiomegaly": ("Cardiomegaly",),
    "Consolidation": ("Consolidation",),
    "Edema": ("Edema",),
    "Pleural Effusion": ("Effusion",),
    "Pneumonia": ("Pneumonia",),
    "Pneumothorax": ("Pneumothorax",),
    "Emphysema": ("Emphysema",),
    "Lung Lesion": ("Mass", "Nodule"),
    "Pleural Other": ("Pleural_Thickening",),
}
SEVEN = tuple(GOLD)[:7]
# Findings and their words for programs that only look for cues around words they are given.
TERMS = {
    "Pleural Effusion": ("pleural effusions", "pleural effusion", "effusions", "effusion"),
    "Pneumothorax": ("pneumothoraces", "pneumothorax"),
    "Consolidation": ("consolidations", "consolidation"),
    "Pneumonia": ("pneumonia", "infection"),
    "Atelectasis": ("atelectasis",),
    "Edema": ("pulmonary edema", "edema"),
    "Lung Opacity": ("opacities", "opacity", "infiltrates", "infiltrate", "airspace disease"),
    "Lung Lesion": ("nodules", "nodule", "mass"),
    "Cardiomegaly": ("cardiomegaly",),
    "Fracture": ("fractures", "fracture"),
}


def read(path: Path) -> tuple[NDArray[np.int64], list[str], list[list[str]]]:
    """Read numbers, texts and lower-case MeSH terms of all reports."""
    studies = read_studies(path)
    parts = zip(studies["findings"], studies["impression"], strict=True)
    texts = ["\n\n".join(part for part in pair if isinstance(part, str)) for pair in parts]
    terms = [mesh.lower().split(";") if isinstance(mesh, str) else [] for mesh in studies["mesh"]]
    return studies["study_id"].astype(int).to_numpy(), texts, terms


def coded(terms: list[str]) -> set[str]:
    """Findings that MeSH terms stand for."""
    heads = (term.split("/")[0].strip() for term in terms)
    return {MESH_FINDINGS[head] for head in heads if head in MESH_FINDINGS}


def counts(terms: list[list[str]], labels: list[Labels]) -> NDArray[np.int64]:
    """True positives, false positives and false negatives (n, 11, 3)."""
    truth = np.array([[name in found for name in NAMES] for found in map(coded, terms)])
    said = np.array([[bool(label[name]) for name in NAMES] for label in labels])
    return tallied(truth, said)


def tallied(truth: NDArray[np.bool_], said: NDArray[np.bool_]) -> NDArray[np.int64]:
    """True positives, false positives and false negatives (n, findings, 3)."""
    return np.stack([truth & said, ~truth & said, truth & ~said], axis=-1).astype(np.int64)


def f1(summed: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of (..., 3) counts."""
    hits, false, missed = np.moveaxis(summed, -1, 0)
    return 2 * hits / np.maximum(2 * hits + false + missed, 1)


def interval(per_report: NDArray[np.int64], seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of macro F1, resampling reports."""
    number, findings, _ = per_report.shape
    weights = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    summed = (weights.astype(float) @ per_report.reshape(number, -1).astype(float)).round()
    macro = f1(summed.astype(np.int64).reshape(RESAMPLES, findings, 3)).mean(-1)
    low, high = np.percentile(macro, [2.5, 97.5])
    return float(low), float(high)


def kinds(texts: list[str], terms: list[list[str]], labels: list[Labels], convention: str) -> Counter[str]:
    """Kinds of disagreement, by what can be counted without reading a report."""
    found: Counter[str] = Counter()
    for text, codes, label in zip(texts, terms, labels, strict=True):
        truth = coded(codes)
        for name in NAMES:
            if bool(label[name]) != (name in truth):
                found[kind(text, codes, name, label[name], convention)] += 1
    return found


def kind(text: str, codes: list[str], name: str, label: int | None, convention: str) -> str:
    """Name the kind of one disagreement."""
    if not label:
        denied = any(mention.finding == name for mention in find_mentions(text, convention))
        return "missed: " + ("text denies it" if denied else "text does not name it so")
    if codes in ([], ["normal"], ["no indexing"]):
        return "extra: report coded as normal or not coded"
    if any(code.startswith(OTHER_TERMS.get(name, ())) for code in codes):
        hedged = "in doubt, " if label == UNCERTAIN else ""
        return f"extra: {hedged}coded under a neighbouring term"
    return "extra: " + ("in doubt, not coded" if label == UNCERTAIN else "asserted, not coded")


def report(title: str, names: tuple[str, ...], per_report: NDArray[np.int64], seed: int) -> None:
    """Print one table."""
    summed = per_report.sum(0)
    hits, false, missed = summed.T
    print(f"\n{title} ({len(per_report)} reports)")
    print(f"{'finding':<18}{'coded':>6}{'precision':>11}{'recall':>8}{'F1':>7}")
    for i, name in enumerate(names):
        precision = hits[i] / max(hits[i] + false[i], 1)
        recall = hits[i] / max(hits[i] + missed[i], 1)
        coded_reports = hits[i] + missed[i]
        print(f"{name:<18}{coded_reports:>6}{precision:>11.3f}{recall:>8.3f}{f1(summed)[i]:>7.3f}")
    low, high = interval(per_report, seed)
    print(f"macro F1 {f1(summed).mean():.4f}, 95 % interval {low:.3f} to {high:.3f}")


def mesh(arguments: argparse.Namespace) -> None:
    """Compare with the MeSH coding."""
    numbers, texts, terms = read(arguments.files[0])
    labels = [label_report(text, arguments.convention) for text in texts]
    per_report = counts(terms, labels)
    odd = numbers % 2 == 1
    for title, rows in (("odd", odd), ("even", ~odd), ("all", odd | True)):
        report(title, NAMES, per_report[rows], arguments.seed)
        chosen = np.flatnonzero(rows)
        own = ([source[i] for i in chosen] for source in (texts, terms, labels))
        for name, number in sorted(kinds(*own, arguments.convention).items()):
            print(f"{number:>6}  {name}")


def negbio(arguments: argparse.Namespace) -> None:
    """Compare with NegBio's gold labels, which stand for findings that are present."""
    numbers, texts, _ = read(arguments.files[0])
    with arguments.files[1].open(encoding="utf-8", newline="") as lines:
        gold = {int(row["filename"].removeprefix("CXR")): row for row in csv.DictReader(lines)}
    rows = [(gold[number], text) for number, text in zip(numbers, texts) if number in gold]
    labels = [label_report(text, arguments.convention) for _, text in rows]
    truth = np.array([[any(row[c] == "1" for c in cs) for cs in GOLD.values()] for row, _ in rows])
    said = np.array([[label[name] == PRESENT for name in GOLD] for label in labels])
    per_report = tallied(truth, said)
    report("gold labels of NegBio", tuple(GOLD), per_report, arguments.seed)
    seven = per_report[:, : len(SEVEN)]
    low, high = interval(seven, arguments.seed)
    print(f"macro F1 of the first seven {f1(seven.sum(0)).mean():.4f}, {low:.3f} to {high:.3f}")


def sentences(arguments: argparse.Namespace) -> None:
    """Score sentences of known meaning, kind by kind, and other programs on the same."""
    for path in arguments.files:
        rows = [line.split("\t")[:3] for line in path.read_text("utf-8").splitlines()[1:]]
        judged(f"{path.name}: label_report", rows, label_report)
        named = [row for row in rows if terms_in(row[1])]
        judged(f"{path.name}, with a word of TERMS: label_report", named, label_report)
        for program in (negspacy, medspacy, f1chexbert):
            try:
                read_by_it = program()
            except (ImportError, OSError) as error:  # not installed, or no weights
                print(f"\n{program.__name__}: skipped, {' '.join(str(error).split())[:200]}")
            else:
                judged(f"{path.name}, with a word of TERMS: {program.__name__}", named, read_by_it)


def judged(title: str, rows: list[list[str]], label: Callable[[str], Labels]) -> None:
    """Print how many sentences of each kind are wrong in at least one finding of `TERMS`."""
    number, wrong = Counter(row[0] for row in rows), Counter[str]()
    for sort, sentence, expected in rows:
        labels = label(sentence.replace("\\n", "\n").replace("\\t", "\t"))
        pairs = [part.split("=") for part in expected.split(";")]
        if "label_report" not in title:
            pairs = [pair for pair in pairs if pair[0] in TERMS]
        said = (str(labels[name]).replace("None", "N") in text.split("/") for name, text in pairs)
        wrong[sort] += not all(said)
    total = wrong.total() / max(len(rows), 1)
    print(f"\n{title}: {wrong.total()} of {len(rows)} wrong ({total:.1%})")
    print("   " + ", ".join(f"{sort} {wrong[sort]}/{number[sort]}" for sort in number))


def terms_in(text: str) -> list[tuple[int, int, str]]:
    """Return where words of `TERMS` begin and end, and for which finding."""
    found = []
    for finding, words in TERMS.items():
        for match in re.finditer(rf"\b(?:{'|'.join(words)})\b", text.lower()):
            found.append((*match.span(), finding))
    return sorted(found)


def combined(said: list[tuple[str, int | None]]) -> Labels:
    """Combine mentions as `label_report` does."""
    labels: Labels = dict.fromkeys(TERMS)
    for finding, label in said:
        if label is not None and (not labels[finding] or label == PRESENT):
            labels[finding] = label
    return labels


def spans(nlp: Any, document: Any) -> Any:
    """Give a spaCy document the findings of `TERMS` as its entities."""
    found = [document.char_span(a, b, label=name) for a, b, name in terms_in(document.text)]
    document.ents = [span for span in found if span is not None]
    for name, step in nlp.pipeline:
        if "negex" in name or "context" in name:
            document = step(document)
    return document


def negspacy() -> Callable[[str], Labels]:
    """Return negspacy's reading: a finding is present or denied."""
    import spacy
    from negspacy.negation import Negex  # noqa: F401  (registers "negex")

    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("negex", config={"ent_types": list(TERMS)})

    def label(text: str) -> Labels:
        document = spans(nlp, nlp(text))
        return combined([(e.label_, 0 if e._.negex else 1) for e in document.ents])

    return label


def medspacy() -> Callable[[str], Labels]:
    """Return the reading of medspacy's ConText, which also knows doubt, history and hypotheses."""
    import medspacy as package
    from loguru import logger

    logger.disable("PyRuSH")  # which tells of every token
    nlp = package.load(medspacy_enable=["medspacy_pyrush", "medspacy_context"])

    def label(text: str) -> Labels:
        document = spans(nlp, nlp(text))
        return combined([(e.label_, context(e._)) for e in document.ents])

    def context(of: Any) -> int | None:
        if of.is_historical or of.is_hypothetical:
            return None
        return 0 if of.is_negated else UNCERTAIN if of.is_uncertain else PRESENT

    return label


def f1chexbert() -> Callable[[str], Labels]:
    """Return the reading of CheXbert, a model (Smit et al., EMNLP 2020)."""
    from f1chexbert import F1CheXbert

    model = F1CheXbert(device="cpu")

    def label(text: str) -> Labels:
        values = model.get_label(text, mode="classification")
        return {n: v if v != "" else None for n, v in zip(model.target_names, values)}

    return label


TIMED = """
import pickle, sys, time
from pathlib import Path
texts = pickle.load(sys.stdin.buffer)
sys.path.insert(0, sys.argv[1])
times = [time.process_time()]
import xray_captioning
label_report = xray_captioning.label_report
label_report("no effusion")  # the data files are read at the first call
times.append(time.process_time())
for _ in range(2):
    for text in texts:
        label_report(text)
    times.append(time.process_time())
assert Path(sys.argv[1]) in Path(xray_captioning.__file__).parents, xray_captioning.__file__
print(*times)
"""


def timed(root: Path, texts: bytes) -> NDArray[np.float64]:
    """Seconds of CPU for import and first call, for all texts, for both, and for all again (4,)."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", TIMED, str(root)]
    done = subprocess.run(command, input=texts, stdout=subprocess.PIPE, check=True, env=kept)
    start, called, labelled, again = map(float, done.stdout.split())
    return np.array([called - start, labelled - called, labelled - start, again - labelled])


def speed(arguments: argparse.Namespace) -> None:
    """Print the time that labelling takes, here and in another checkout."""
    _, texts, _ = read(arguments.files[0])
    roots = [Path(__file__).resolve().parents[1]]
    roots += [arguments.against.resolve()] if arguments.against else []
    rounds = range(arguments.repeats + 1)
    packed = pickle.dumps(texts)
    seconds = np.array([[timed(root, packed) for root in roots] for _ in rounds])[1:].min(axis=0)
    print(f"{len(texts)} reports, seconds of CPU, least of {arguments.repeats}")
    print(f"{'':<24}{'first call':>12}{'labelling':>12}{'together':>12}{'again':>12}")
    for root, row in zip(("here", str(roots[-1])), seconds):
        print(f"{root:<24}" + "".join(f"{value:>12.4f}" for value in row))
    first, again = len(texts) / seconds[0, [1, 3]]
    print(f"here {first:,.0f} reports a second, again {again:,.0f}")
    if arguments.against:
        print(f"{'ratio':<24}" + "".join(f"{value:>12.2f}" for value in seconds[0] / seconds[1]))


def main() -> None:
    """Run one of the yardsticks."""
    yardsticks = {"mesh": mesh, "negbio": negbio, "sentences": sentences, "speed": speed}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("yardstick", choices=yardsticks)
    parser.add_argument("files", type=Path, nargs="+", help="as in the examples above")
    parser.add_argument("--convention", choices=CONVENTIONS, default="mesh")
    parser.add_argument("--against", type=Path, help="speed: another checkout to compare with")
    parser.add_argument("--repeats", type=int, default=9, help="speed: rounds of fresh processes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the bootstrap")
    arguments = parser.parse_args()
    yardsticks[arguments.yardstick](arguments)


if __name__ == "__main__":
    main()
