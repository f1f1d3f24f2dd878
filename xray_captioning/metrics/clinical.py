"""Clinical agreement of two sets of reports: how far they name the same findings (sources: ``docs/statistics.md``).
``clinical_f1`` averages over findings and leaves "No Finding" out, of which a constant normal report alone would get
about one half. Which findings is settled before a test text is seen: were they those that the test reports happen
to have, inventing the others would cost nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xray_captioning.errors import ConfigError
from xray_captioning.findings import CHEXPERT, FINDINGS, NO_FINDING
from xray_captioning.metrics import labeler
from xray_captioning.metrics.ngrams import BLOCK, Floats, in_order, one_text, paired

NOT_MENTIONED = -2  # what label_matrix writes where label_report says None
CHEXPERT_5 = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")

Array = NDArray[Any]
Labels = NDArray[np.int8]
Findings = Sequence[str] | None  # their names; None is all but "No Finding"
Texts = Sequence[str] | Mapping[Any, str] | Labels  # reports by position or by id, or their labels
# Which columns of labels are findings: all but "No Finding", shape (18,).
IS_FINDING = np.array([name != NO_FINDING for name in FINDINGS])
# Share of the training reports that have to assert a finding before ``clinical_f1`` counts it.
LEAST_SHARE = 0.02
# Which columns the published averages are over, by the ending of their names.
GROUPS = {"14": np.isin(FINDINGS, CHEXPERT), "5": np.isin(FINDINGS, CHEXPERT_5), "all": np.ones(len(FINDINGS), bool)}


class FindingScore(NamedTuple):
    """How well a system names one finding; a share of nothing is nan."""

    finding: str
    precision: float
    recall: float
    f1: float
    support: int  # studies whose reference has the finding
    predicted: int  # studies whose hypothesis has it


class Contradiction(NamedTuple):
    """One text asserts what the other denies; `row` counts the pairs from 0."""

    row: int
    finding: str
    reference: int
    hypothesis: int


def label_matrix(texts: Iterable[str], convention: str | None = None) -> Labels:
    """Label many reports, those of a dictionary in its order, as :func:`~xray_captioning.label_report`: int8, (n, 18),
    columns as :data:`FINDINGS`: 1 present, 0 denied, -1 uncertain, -2 (:data:`NOT_MENTIONED`) not mentioned.
    """
    rows = labeler.kept_bits(labeler.label_bits, labeler.convention_of(convention))
    reports, found = in_order("texts", texts), [np.empty((0, len(FINDINGS)), np.int8)]
    for start in range(0, len(reports), BLOCK):
        part = enumerate(reports[start : start + BLOCK], start)
        texts = [text if isinstance(text, str) else one_text(f"texts[{row}]", text) for row, text in part]
        found.append(labels_of(labeler.report_bits(texts, rows)))
    return np.concatenate(found)


def labels_of(bits: labeler.Bits) -> Labels:
    """Return the labels of reports, (n, 18), from `labeler.report_bits`."""
    labels = np.full((len(bits), len(FINDINGS)), NOT_MENTIONED, dtype=np.int8)
    for label in (labeler.DENIED, labeler.UNCERTAIN, labeler.PRESENT):  # the last outweighs the others
        labels[bits[:, :-1] & labeler.LABEL_BITS[label] > 0] = label
    nothing = bits[:, -1] & (labeler.LETTERS | labeler.ABNORMAL) == labeler.LETTERS
    labels[nothing, FINDINGS.index(NO_FINDING)] = labeler.PRESENT
    return labels


def asserted(texts: Texts, uncertain: bool = True) -> NDArray[np.bool_]:
    """Return which findings texts or labels assert, uncertain ones if asked: bool, (n, 18)."""
    labels = _labels(texts)
    return (labels == labeler.PRESENT) | (uncertain & (labels == labeler.UNCERTAIN))


def counted_findings(training: Texts) -> tuple[str, ...]:
    """Return what ``clinical_f1`` averages over: findings that `LEAST_SHARE` of training reports assert, or all 17."""
    # Of a rarer one there are too few cases: their F1 is chance.
    present = asserted(training)
    frequent = IS_FINDING & (present.sum(axis=0) >= LEAST_SHARE * len(present))
    return tuple(np.array(FINDINGS)[frequent if frequent.any() else IS_FINDING].tolist())


def _labels(texts: Texts) -> Labels:
    return texts if isinstance(texts, np.ndarray) and texts.ndim == 2 else label_matrix(texts)


def confusion(references: Texts, hypotheses: Texts, uncertain: bool = True) -> NDArray[np.int8]:
    """Count true positives, false positives and false negatives of each study and finding: int8, (n, 18, 3)."""
    # An uncertain finding counts as present where `uncertain` is true, otherwise as absent.
    _, columns = paired(references=references, hypotheses=hypotheses)
    reference, hypothesis = (asserted(column, uncertain) for column in columns)
    hits = (reference & hypothesis, ~reference & hypothesis, reference & ~hypothesis)
    return np.stack(hits, axis=-1).astype(np.int8)


def scores_from_counts(counts: Array, findings: Findings = None) -> dict[str, Floats]:
    """Compute macro and micro F1 from sums of `confusion` over studies, (..., 18, 3): each (...), in [0, 1]."""
    # ``clinical_f1`` is macro F1 over those `findings` that some text asserts, so that a perfect system scores 1;
    # those of `GROUPS` count "No Finding" and, as the literature, 0 for a finding that nobody has.
    each = _f1(counts)
    f1, asserted_by_some = np.nan_to_num(each), np.isfinite(each)
    chosen = finding_columns(findings)
    scores = {
        "clinical_f1": share(f1[..., chosen].sum(-1), asserted_by_some[..., chosen].sum(-1)),
        "micro_f1": np.nan_to_num(_f1(counts[..., IS_FINDING, :].sum(-2))),
    }
    for name, group in GROUPS.items():
        scores[f"macro_f1_{name}"] = f1[..., group].mean(-1)
        scores[f"micro_f1_{name}"] = np.nan_to_num(_f1(counts[..., group, :].sum(-2)))
    return scores


def finding_columns(findings: Findings) -> NDArray[np.bool_]:
    """Return which columns of labels have these names, (18,); None is all but "No Finding"."""
    if findings is None:
        return IS_FINDING
    if unknown := [name for name in findings if name not in FINDINGS]:
        raise ConfigError(f"{unknown[0]!r} is no finding; choose of {', '.join(FINDINGS)}")
    if not findings:
        raise ConfigError("there is no finding to average over; name one or more")
    return np.isin(FINDINGS, findings)


def _f1(counts: Array) -> Floats:
    """Return F1 along the last axis (true positives, false positives, false negatives)."""
    hits, false, missed = (np.asarray(counts[..., i], dtype=np.float64) for i in range(3))
    return share(2 * hits, 2 * hits + false + missed)


def share(part: Array, whole: Array) -> Floats:
    """Return a quotient; a share of nothing is nan."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def example_f1(counts: Array) -> Floats:
    """Return the F1 of each study's `confusion`, (n,), over all eighteen names; 1 for nothing."""
    return np.nan_to_num(_f1(counts.sum(1, dtype=np.int64)), nan=1.0)


def clinical_scores(
    references: Texts, hypotheses: Texts, findings: Findings = None, convention: str | None = None
) -> dict[str, float]:
    """Compare the findings of hypotheses with those of their references.

    Parameters
    ----------
    references, hypotheses : sequence of str, or labels
        Reports, or what :func:`label_matrix` makes of them.
    findings : sequence of str, optional
        What ``clinical_f1`` averages over, settled before a text is seen (:func:`counted_findings`), or all.
    convention : {"chexpert", "mesh"}, optional
        By which reports are read, see :func:`~xray_captioning.label_report`.

    Returns
    -------
    dict of str to float
        The names of :func:`scores_from_counts`, ``example_f1`` (mean of :func:`example_f1`) and ``false_positives``
        (asserted by hypotheses, not by references, a study, "No Finding" left out), uncertain findings counted as
        present; and the same names with ``_present`` added, uncertain findings counted as absent.

    Examples
    --------
    >>> scores = clinical_scores(["large left effusion", "edema"], ["effusion", "edema, fracture"])
    >>> round(scores["clinical_f1"], 3), scores["false_positives"]
    (0.667, 0.5)
    """
    _, columns = paired(references=references, hypotheses=hypotheses)
    with labeler.read_by(convention):
        statistics = finding_statistics(*map(_labels, columns))
    return of_one_sample(finding_scores, statistics, findings)


def finding_statistics(reference: Labels, hypothesis: Labels) -> dict[str, Array]:
    """Return what `finding_scores` are made of, study by study: `confusion` and `example_f1`."""
    found: dict[str, Array] = {}
    for suffix, uncertain in (("", True), ("_present", False)):
        counts = confusion(reference, hypothesis, uncertain)
        found |= {"findings" + suffix: counts, "example_f1" + suffix: example_f1(counts)}
    return found


def finding_scores(sums: Mapping[str, Array], findings: Findings = None) -> dict[str, Floats]:
    """Compute `clinical_scores` of samples, (samples,), from sums of `finding_statistics`."""
    scores: dict[str, Floats] = {}
    for suffix in ("", "_present"):
        counts = sums["findings" + suffix]
        scores |= {name + suffix: values for name, values in scores_from_counts(counts, findings).items()}
        scores["example_f1" + suffix] = sums["example_f1" + suffix] / sums["n"]
        scores["false_positives" + suffix] = counts[..., IS_FINDING, 1].sum(-1) / sums["n"]
    return scores


def of_one_sample(
    scored: Callable[..., dict[str, Array]], statistics: Mapping[str, Array], *arguments: Any
) -> dict[str, float]:
    """Return the scores of all studies together from their statistics."""
    sums = {name: values.sum(axis=0, keepdims=True) for name, values in statistics.items()}
    sums["n"] = np.array([len(next(iter(statistics.values())))])
    return {name: float(values[0]) for name, values in scored(sums, *arguments).items()}


def supported_findings(references: Texts, findings: Sequence[str]) -> dict[str, int]:
    """Return how many references assert each finding, uncertain ones too."""
    number = dict(zip(FINDINGS, asserted(references).sum(axis=0).tolist(), strict=True))
    return {name: number[name] for name in findings}


def clinical_f1_of_constants(references: Texts, candidates: Texts, findings: Findings = None) -> Floats:
    """Return the ``clinical_f1`` of :func:`clinical_scores` for each fixed text: (candidates,)."""
    said, present = asserted(candidates), asserted(references).sum(axis=0)
    hits, false = said * present, said * (len(references) - present)
    return scores_from_counts(np.stack([hits, false, ~said * present], axis=-1), findings)["clinical_f1"]


def finding_table(references: Texts, hypotheses: Texts) -> list[FindingScore]:
    """Return precision, recall and F1 of every finding; uncertain ones count as present."""
    counts = confusion(references, hypotheses).sum(0, dtype=np.int64)
    hits, false, missed = counts.T
    said, true = hits + false, hits + missed
    columns = [found.tolist() for found in (share(hits, said), share(hits, true), _f1(counts), true, said)]
    return [FindingScore(*row) for row in zip(FINDINGS, *columns, strict=True)]


def contradictions(references: Texts, hypotheses: Texts) -> list[Contradiction]:
    """List what one text asserts and the other denies, for certain, by study, then finding."""
    _, columns = paired(references=references, hypotheses=hypotheses)
    both = reference, hypothesis = tuple(map(_labels, columns))
    found = np.argwhere(opposed(reference, hypothesis)).tolist()
    return [Contradiction(i, FINDINGS[j], *(int(labels[i, j]) for labels in both)) for i, j in found]


def opposed(reference: Labels, hypothesis: Labels) -> NDArray[np.bool_]:
    """Return which findings one text asserts for certain and the other denies: (n, 18)."""
    one = (reference == labeler.PRESENT) & (hypothesis == labeler.DENIED)
    return one | (reference == labeler.DENIED) & (hypothesis == labeler.PRESENT)
