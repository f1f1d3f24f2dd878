"""Systems, and those that look at no image, only at the nearest one, or at the answer."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import DataError
from xray_captioning.files import read_toml
from xray_captioning.findings import CONSTANT, FINDINGS, MOST_FREQUENT, ORACLE, RANDOM, RETRIEVAL
from xray_captioning.metrics import bleu, cider, clinical, labeler, ngrams, rouge
from xray_captioning.text.cleaning import clean_r2gen

Array = NDArray[Any]
Texts = Sequence[str]
Pooled = Mapping[str, Sequence[Sequence[Array]]]  # by model and run, features of the training and the evaluated studies

# What a fixed report is chosen by; the one by BLEU-4 is called simply ``constant``.
CONSTANT_METRICS = ("BLEU-4", "BLEU-1", "BLEU-2", "BLEU-3", "ROUGE-L", "CIDEr", "clinical_f1")
CONSTANTS = (CONSTANT, *(f"{CONSTANT}-{metric}" for metric in CONSTANT_METRICS[1:]))
BASELINES = (*CONSTANTS, MOST_FREQUENT, RANDOM, RETRIEVAL, ORACLE)  # names that no system may have
# Most texts that are tried as a fixed report, and most training texts they are scored against.
CANDIDATES, REFERENCES = 2_000, 4_000
DRAWS = 10  # of what is random; its scores are their mean
# How often a training sentence has to occur before the template uses it, and its most words.
OFTEN, SHORT = 3, 12
# What the template says of a finding that no such sentence asserts alone.
PHRASES: dict[str, str] = read_toml(__file__, "baselines.toml")["phrases"]
_SENTENCE = re.compile(r"\S.*?(?:\s\.(?=\s|$)|$)", re.DOTALL)
R2GEN = "r2gen"  # the protocol, and its cleaning
MINIMUM_FREQUENCY, MAXIMUM_WORDS = 3, 59  # of training words; of a reference: R2Gen's 60 with one start token


class System(NamedTuple):
    """What one system wrote for the evaluated studies, in their order."""

    name: str
    search: str | None  # ``greedy``, ``beam-3`` …, or None where nothing was searched
    texts: Sequence[str]
    kind: str = "system"  # or what it is compared with: "baseline", "shuffled", "context"
    others: Sequence[Sequence[str]] = ()  # of further runs: training seeds, or random draws

    @property
    def column(self) -> str:
        """Name of the system's column in ``captions.csv``, or what such columns begin with."""
        return f"{self.name} {self.search}" if self.search else self.name

    @property
    def runs(self) -> list[Sequence[str]]:
        """Texts of every run; the system's scores are the mean over them."""
        return [self.texts, *self.others]

    @property
    def columns(self) -> dict[str, Sequence[str]]:
        """Columns of ``captions.csv``: one a run of a system, the first draw of what is random."""
        if self.kind != "system" or not self.others:
            return {self.column: self.texts}
        return {f"{self.column} run {n}": texts for n, texts in enumerate(self.runs, 1)}


class ReportTexts(NamedTuple):
    """What readers wrote of the evaluated and of the training studies."""

    references: Sequence[str]  # of the evaluated studies: what words are compared with
    reports: Sequence[str]  # of the same: findings count. A protocol may make a word of a reference ``<unk>``
    training: Sequence[str]  # of the training studies; a system may repeat one of them
    targets: Sequence[str]  # the same as the protocol alters references
    whole: list[str] | None = None  # the references, where a protocol truncates them, before that

    @classmethod
    def unaltered(cls, references: Sequence[str], training: Sequence[str]) -> Self:
        """Return texts that no protocol alters."""
        return cls(references, references, training, training)

    @classmethod
    def as_r2gen(cls, reports: Texts, training: Texts, asis: Texts, learned: Texts) -> Self:
        """Return cleaned texts, and references that R2Gen's evaluation makes of uncleaned ones."""
        vocabulary = r2gen_vocabulary(learned)
        references, whole = (r2gen_references(asis, vocabulary, most) for most in (MAXIMUM_WORDS, None))
        return cls(references, reports, training, r2gen_references(learned, vocabulary), whole)


def r2gen_vocabulary(training_reports: Iterable[str]) -> frozenset[str]:
    """Return the cleaned words that training reports have at least three times."""
    counts = Counter(word for text in training_reports for word in clean_r2gen(text).split())
    return frozenset(word for word, number in counts.items() if number >= MINIMUM_FREQUENCY)


def r2gen_references(
    reports: Iterable[str], vocabulary: frozenset[str], maximum_words: int | None = MAXIMUM_WORDS
) -> list[str]:
    """Make the references of R2Gen's evaluation on IU X-ray (Chen et al., EMNLP 2020, and its released code)."""
    # Cleaned, ``<unk>`` for words not in `vocabulary`, those after the 59th left out; systems' texts are only cleaned.
    cleaned = (clean_r2gen(text).split()[:maximum_words] for text in reports)
    return [" ".join(w if w in vocabulary else "<unk>" for w in words) for words in cleaned]


def baseline_systems(
    training: Texts, targets: Texts, reports: Texts, pooled: Pooled, quick: bool = False, seed: int = 0
) -> list[System]:
    """Return every baseline with what it writes of the evaluated studies, in a table's order."""
    # They repeat `training` texts (`targets` as a protocol scores them); only the oracle sees findings of `reports`;
    # each model in `pooled` has a retrieval. Quick keeps constants by BLEU-4 and clinical F1, random and retrievals.
    fixed, count = _fixed(training, targets, CONSTANT_METRICS[: 1 if quick else -1]), len(reports)
    runs = {name: [[text] * count] for name, text in fixed.items()}
    if not quick:
        runs[MOST_FREQUENT] = [[most_frequent_caption(training)] * count]
    draws = DRAWS if count <= ngrams.LARGE else 1
    runs[RANDOM] = [random_captions(training, count, (seed, draw)) for draw in range(draws)]
    for name, arrays in pooled.items():
        shown = RETRIEVAL if len(pooled) == 1 else retrieval_name(name)
        runs[shown] = [retrieval_captions(keys, training, asked) for keys, asked in arrays]
    if not quick:
        runs[ORACLE] = [oracle_captions(training, reports)]
    return [System(name, None, own[0], "baseline", own[1:]) for name, own in runs.items()]


def retrieval_name(model: str) -> str:
    """Return the name of the retrieval that looks through one of several models."""
    return f"{RETRIEVAL} {model}"


def _fixed(training: Texts, targets: Texts, words: Sequence[str]) -> dict[str, str]:
    # A protocol may replace rare words of its references: findings are read from whole texts.
    chosen = constant_captions(training, targets, words)
    chosen |= constant_captions(training, metrics=CONSTANT_METRICS[-1:])
    chosen.setdefault(CONSTANT_METRICS[0], training[0])
    return {name: chosen[metric] for name, metric in zip(CONSTANTS, CONSTANT_METRICS) if metric in chosen}


def merged_rows(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows for people: fixed reports that score alike are one, named by their metrics."""
    alike: dict[Any, list[Mapping[str, Any]]] = {}
    for number, row in enumerate(rows):
        fixed = row["system"] in (*CONSTANTS, MOST_FREQUENT)
        alike.setdefault(repr({**row, "system": ""}) if fixed else number, []).append(row)
    return [{**same[0], "system": _shared_name([row["system"] for row in same])} for same in alike.values()]


def _shared_name(names: Sequence[str]) -> str:
    chosen = [metric for name, metric in zip(CONSTANTS, CONSTANT_METRICS) if name in names]
    if len(chosen) < 2:
        return ", ".join(names)
    metrics = ", ".join(chosen).replace(", ".join(CONSTANT_METRICS[:4]), "BLEU-1 to 4")
    metrics = "every metric" if len(chosen) == len(CONSTANTS) else metrics
    return ", ".join([f"{CONSTANT} ({metrics})", *names[len(chosen) :]])


def constant_captions(
    texts: Texts, references: Texts | None = None, metrics: Sequence[str] = CONSTANT_METRICS
) -> dict[str, str]:
    """Return, for each metric, the (cleaned) training text that scores highest when said of every study."""
    # Of the 2,000 most frequent ones, against 4,000 evenly chosen at most; `references` are the same as a protocol
    # alters them. A metric in which all score 0 has none, such as ``clinical_f1`` where no text names a finding.
    if not texts:
        raise DataError("a constant caption needs training texts; there are none")
    # Of texts that score the same the first in the alphabet is chosen, so that the order of the data plays no part.
    candidates = sorted(text for text, _ in Counter(texts).most_common(CANDIDATES))
    wanted = list(texts if references is None else references)
    if len(wanted) > REFERENCES:
        wanted = [wanted[i] for i in np.linspace(0, len(wanted) - 1, REFERENCES).astype(int)]
    scores = _scores(candidates, wanted, metrics)
    return {metric: candidates[int(np.argmax(scores[metric]))] for metric in metrics if scores[metric].any()}


def _scores(candidates: list[str], references: list[str], metrics: Sequence[str]) -> dict[str, Array]:
    scores: dict[str, Array] = {}
    if any(metric.startswith("BLEU-") for metric in metrics):
        columns = bleu.bleu_of_constants(references, candidates).T
        scores = {f"BLEU-{order}": column for order, column in enumerate(columns, 1)}
    if "ROUGE-L" in metrics:
        scores["ROUGE-L"] = rouge.rouge_l_of_constants(references, candidates)
    if "CIDEr" in metrics:
        scores["CIDEr"] = cider.cider_of_constants(references, candidates)
    if "clinical_f1" in metrics:
        labels = clinical.label_matrix(references)
        counted = clinical.counted_findings(labels)
        scores["clinical_f1"] = clinical.clinical_f1_of_constants(labels, candidates, counted)
    return {metric: np.nan_to_num(values) for metric, values in scores.items()}


def constant_caption(texts: Sequence[str]) -> str:
    """Return `constant_captions` by BLEU-4, or the first in the alphabet where none scores."""
    return constant_captions(texts, metrics=["BLEU-4"]).get("BLEU-4", min(texts, default=""))


def most_frequent_caption(texts: Sequence[str]) -> str:
    """Return the most frequent text; of equally frequent ones the first in the alphabet."""
    counts = Counter(texts)
    return min(counts, key=lambda text: (-counts[text], text))


def random_captions(texts: Sequence[str], count: int, seed: int | Sequence[int] = 0) -> list[str]:
    """Return training texts drawn at random with replacement."""
    return [texts[i] for i in np.random.default_rng(seed).integers(len(texts), size=count)]


def retrieval_captions(features: Array, texts: Sequence[str], queries: Array) -> list[str]:
    """Return the text of each query's nearest study, by cosine of standardised features (n, channels)."""
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    vectors = [(x - mean) / deviation for x in (features, queries)]
    keys, asked = (v / (np.linalg.norm(v, axis=1, keepdims=True) + 1e-9) for v in vectors)
    return [texts[i] for i in np.argmax(asked @ keys.T, axis=1)]


def oracle_captions(texts: Sequence[str], references: Sequence[str]) -> list[str]:
    """Write what a template makes of the findings that the references really have, its ceiling."""
    # For each the training sentence that most often asserts it alone, or one of PHRASES, then sentences of the best
    # fixed report (by BLEU-4) without a finding that deny nothing written.
    found, asked = (clinical.asserted(column) & clinical.IS_FINDING for column in (texts, references))
    plain = [text for text, some in zip(texts, found.any(axis=1)) if not some and text.strip()]
    said = _favourites(Counter(sentence for text in texts for sentence in _sentences(text)))
    normal = _sentences(constant_caption(plain)) if plain else []
    labels, written = clinical.label_matrix(normal), []
    for row in asked:
        denied, sentences = (labels[:, row] == labeler.DENIED).any(axis=1), [said[i] for i in np.flatnonzero(row)]
        written.append(" ".join([*sentences, *(text for text, no in zip(normal, denied) if not no)]))
    return written


def _favourites(counts: Counter[str]) -> list[str]:
    """Return, for each finding, the most frequent sentence that asserts no other one."""
    common = [text for text in counts if counts[text] >= OFTEN and len(text.split()) <= SHORT]
    ordered = sorted(common, key=lambda text: (-counts[text], len(text), text))
    labels = clinical.label_matrix(ordered)
    present, doubted = ((labels == value) & clinical.IS_FINDING for value in (labeler.PRESENT, labeler.UNCERTAIN))
    alone = (present.sum(axis=1) == 1) & ~doubted.any(axis=1)
    best: dict[str, str] = defaultdict(str, PHRASES)
    for row in np.flatnonzero(alone)[::-1]:  # the most frequent one comes last and stays
        best[FINDINGS[int(np.argmax(present[row]))]] = ordered[row]
    return [best[name] for name in FINDINGS]


def _sentences(text: str) -> list[str]:
    return [" ".join(found.split()) for found in _SENTENCE.findall(text)]
